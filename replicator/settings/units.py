"""Durations and sizes as people write them: `250ms`, `30s`, `64MiB`."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|KB|MB|GB)")
_BYTES = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}


class Duration(float):
    """Seconds, written in the configuration as a string with a unit."""

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Raises ValueError with a sentence that says what a duration looks like."""
        match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(
                f"expected a duration with a unit, such as `250ms`, `30s` or `5m`, not {text!r}"
            )
        return cls(float(match[1]) * _SECONDS[match[2]])

    def __str__(self) -> str:
        for unit in ("d", "h", "m", "s"):
            if self >= _SECONDS[unit] and (self / _SECONDS[unit]).is_integer():
                return f"{int(self / _SECONDS[unit])}{unit}"
        return f"{self * 1000:g}ms" if self else "0s"


class Size(int):
    """Bytes, written in the configuration as a string with a unit."""

    @classmethod
    def parse(cls, text: object) -> Size:
        """Raises ValueError with a sentence that says what a size looks like."""
        match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(
                f"expected a size with a unit, such as `64KiB` or `16MiB`, not {text!r}"
            )
        return cls(float(match[1]) * _BYTES[match[2]])

    def __str__(self) -> str:
        for unit in ("GiB", "MiB", "KiB"):
            if self >= _BYTES[unit] and self % _BYTES[unit] == 0:
                return f"{self // _BYTES[unit]}{unit}"
        return f"{int(self)}B"


class Secret(str):
    """A string that never shows itself: not in repr, logs, status or reports. `reveal()` gives
    it.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self.reveal() else "''"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def reveal(self) -> str:
        """The secret itself, as a plain string."""
        return str.__str__(self)
