"""Deadlines that scale with the machine: how many times slower than an idle reference it is at the moment."""

from __future__ import annotations

import os
import time

REFERENCE_S = 0.32
"""Time of `fixed_work` on the idle machine that the deadlines were set on."""
MOST = 20.0
"""A machine slower than this by then is broken, and the deadline may pass."""


def scaled(seconds: float) -> float:
    """`seconds` on an idle machine, as long as this one needs for the same now; never less than `seconds`."""
    return seconds * slowness()


def slowness() -> float:
    """How many times longer work takes here and now, 1 to `MOST`: by a fixed work, or by the waiting processes."""
    start = time.perf_counter()
    fixed_work()
    measured = (time.perf_counter() - start) / REFERENCE_S
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0
    return min(MOST, max(1.0, measured, waiting))


def fixed_work() -> int:
    """The same arithmetic each time, on one core."""
    return sum(number * number % 7 for number in range(3_000_000))
