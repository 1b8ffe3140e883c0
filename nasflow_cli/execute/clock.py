"""A clock for limits and records: seconds since 1970 that never jump. Refuses to know which clocks there are."""

from __future__ import annotations

from collections.abc import Callable


def steady(wall: Callable[[], float], monotonic: Callable[[], float]) -> Callable[[], float]:
    """Return a clock that shows what `wall` shows now, and goes on at the pace of `monotonic`.

    When the system's clock is set, by an administrator or by NTP, no trial is over its time limit for that, and none
    has taken less time than none.
    """
    offset = wall() - monotonic()
    return lambda: offset + monotonic()
