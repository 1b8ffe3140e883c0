"""Counts in messages: 1 epoch, 3 epochs. Refuses nothing."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """So many of what the noun (in the singular, with a plural in s) names."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
