"""Scales of a chart: where a value stands between two ends, and which values get a tick. Linear or logarithmic.

Refuses ends that are out of order or no numbers, and a logarithmic axis that begins at or below 0.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What an axis shows: its title, its ends in the units of the data, and whether it is logarithmic."""

    title: str
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"an axis goes from a number to a larger one, not from {self.low} to {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic axis begins above 0, not at {self.low}")

    def share(self, value: float) -> float:
        """Where a value stands, from 0 (low) to 1 (high); what lies outside stands at the nearer end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 7) -> list[float]:
        """At most so many round values within the ends (at least 2 are allowed), rising."""
        if most < 2:
            raise ValueError(f"an axis has room for at least 2 ticks, not {most}")
        decades = math.log10(self.high / self.low) if self.log else 0.0
        return self._powers(most) if decades >= 1 else self._multiples(most)

    def _multiples(self, most: int) -> list[float]:
        least = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(least))
        for step in itertools.chain((step * power for step in _STEPS), (20 * power, 50 * power)):
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last - first + 1 <= most:
                break
        return [_rounded(i * step) for i in range(first, last + 1)]

    def _powers(self, most: int) -> list[float]:
        """1, 2, 5, 10, ... where they fit; else powers of ten, and of these every so many."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for factors in ((1, 2, 5), (1, 3), (1,)):
            ticks = [_rounded(f * 10.0**i) for i in range(first, last + 1) for f in factors]
            ticks = [tick for tick in ticks if self.low <= tick <= self.high]
            if len(ticks) <= most:
                return ticks
        return ticks[:: math.ceil(len(ticks) / most)]


def _rounded(value: float) -> float:
    """Without the dust of binary fractions: 0.3 and not 0.30000000000000004."""
    return float(f"{value:.12g}")


def tick_label(value: float) -> str:
    """A tick in words: thousands apart, no exponent within reason."""
    if value == 0 or 1e-6 <= abs(value) < 1e9:
        return f"{value:,.10f}".rstrip("0").rstrip(".")
    return f"{value:g}"
