"""Typer commands and all printing. No logic lives here."""
