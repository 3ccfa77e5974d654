"""
Wall-clock time: the only module that asks for it.

Monotonic time and waits belong to the running loop. Wall-clock time is for what people and
other programs read (journal, status, event age), never for deciding how long to wait within a
process.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since the epoch, UTC."""


def wall() -> float:
    """Seconds since the epoch, UTC."""
    return time.time()
