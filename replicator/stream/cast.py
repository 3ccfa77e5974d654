"""
Casts: change the type of a payload value without changing what it says.

A value that cannot be said in the wanted type is refused (ValueError), never rounded or
guessed: 5.5 is no integer, 2**53 + 1 is no float, "yes" is no boolean. Null stays null. In a
list each element is cast, as stores treat a list as several values of its field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

CastName = Literal["int", "float", "str", "bool"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)
_BOOLEANS = {"true": True, "false": False}


def cast(name: CastName, value: Any) -> Any:
    """The value in the wanted type. Raises ValueError with a sentence that shows no value."""
    if value is None:
        return None
    if isinstance(value, list):
        return [cast(name, element) for element in value]
    result = _CASTS[name](value)
    if result is None:
        raise ValueError(f"this {type(value).__name__} cannot be said as {name}")
    return result


def _to_int(value: Any) -> int | None:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    return None


def _to_float(value: Any) -> float | None:
    if isinstance(value, float):
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        try:
            return float(value) if float(value) == value else None
        except OverflowError:
            return None
    if isinstance(value, str) and _FLOAT.fullmatch(value):
        return float(value) if math.isfinite(float(value)) else None
    return None


def _to_str(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, int | float) else None


def _to_bool(value: Any) -> bool | None:
    if isinstance(value, str):
        return _BOOLEANS.get(value.lower())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


_CASTS: Mapping[CastName, Callable[[Any], Any]] = {
    "int": _to_int,
    "float": _to_float,
    "str": _to_str,
    "bool": _to_bool,
}
