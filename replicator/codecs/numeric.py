"""
Computing on float32 bytes. Apart from `vectors`, because numpy takes a while to import and only
the data path needs it.
"""

from __future__ import annotations

import math

import numpy as np

_F32 = np.dtype("<f4")
_U32 = np.dtype("<u4")


def is_finite(data: bytes) -> bool:
    """Whether float32 bytes (a multiple of 4) hold neither NaN nor Infinity."""
    floats = np.frombuffer(data, _F32)
    # The sum of squares is finite only if every component is, and is half the price of looking
    # at each (0.7 against 1.3 µs for 1536). `vdot`, because `dot` warns when finite numbers
    # overflow, as squares of very large ones do; those are looked at one by one.
    return math.isfinite(np.vdot(floats, floats)) or bool(np.isfinite(floats).all())


def is_zero(data: bytes) -> bool:
    """Whether float32 bytes (a multiple of 4) hold nothing but zeros."""
    return not np.frombuffer(data, _F32).any()


def has_negative(data: bytes) -> bool:
    """Whether one of float32 bytes (a multiple of 4) is below zero."""
    return bool((np.frombuffer(data, _F32) < 0).any())


def is_ascending(data: bytes) -> bool:
    """Whether uint32 bytes (a multiple of 4) ascend, no number twice."""
    numbers = np.frombuffer(data, _U32)
    return bool((numbers[1:] > numbers[:-1]).all())


def shortened(data: bytes, size: int) -> bytes:
    """The first `size` components of a dense vector, scaled to length one."""
    return normalised(data[: 4 * size])


def normalised(data: bytes) -> bytes:
    """A dense vector scaled to length one; the zero vector stays as it is."""
    floats = np.frombuffer(data, _F32).astype(np.float64)
    length = math.sqrt(float(floats @ floats))
    return (floats / length).astype(_F32).tobytes() if length else data
