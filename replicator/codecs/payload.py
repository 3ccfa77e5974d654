"""
What a payload may hold: JSON values, and among those what every store and both wire formats can
carry. Integers end at 64 bits, floats are finite, and nesting ends at a depth that protobuf and
our own recursion survive.
"""

from __future__ import annotations

import math
from typing import Any

from replicator.codecs.keys import INTEGER_MAX, INTEGER_MIN
from replicator.errors import Rejected

DEPTH_MAX = 32
"""Levels of lists and maps. Protobuf stops at 100 nested messages, and a level of a payload
takes up to three; nothing sensible nests half as deep."""

_PLAIN = frozenset({str, bool, type(None)})


def check_payload(payload: dict[str, Any], path: str = "payload") -> None:
    """
    Raises Rejected with the path of the first value that is not JSON (`field-type`), of a NaN
    or Infinity (`payload-not-finite`), of an integer beyond 64 bits or of nesting beyond
    DEPTH_MAX (`field-invalid`).
    """
    _check_map(payload, path, DEPTH_MAX)


def _check_map(values: dict[Any, Any], path: str, depth: int) -> None:
    for name, value in values.items():
        if type(name) is not str:
            raise Rejected(
                "field-type",
                f"{path} has a key that is not a string: {type(name).__name__}",
                path,
            )
        # The path is made only for what is looked into or wrong.
        if type(value) not in _PLAIN:
            _check_value(value, path, name, depth)


def _check_value(value: object, parent: str, step: str | int, depth: int) -> None:
    kind = type(value)
    if kind is int:
        assert isinstance(value, int)
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            path = join(parent, step)
            raise Rejected("field-invalid", f"{path} does not fit in 64 bits", path)
    elif kind is float:
        assert isinstance(value, float)
        if not math.isfinite(value):
            path = join(parent, step)
            raise Rejected("payload-not-finite", f"{path} is {value}", path)
    elif isinstance(value, (dict, list, tuple)):
        path = join(parent, step)
        if depth <= 1:
            raise Rejected(
                "field-invalid", f"{path} is nested deeper than {DEPTH_MAX} levels", path
            )
        if isinstance(value, dict):
            _check_map(value, path, depth - 1)
        else:
            for index, item in enumerate(value):
                if type(item) not in _PLAIN:
                    _check_value(item, path, index, depth - 1)
    else:
        path = join(parent, step)
        raise Rejected("field-type", f"{path} is not a JSON value: {kind.__name__}", path)


def join(parent: str, step: str | int) -> str:
    """A path one step longer: `payload.tags[2]`; the empty name shows as `""`."""
    if isinstance(step, int):
        return f"{parent}[{step}]"
    return f"{parent}.{step or chr(34) * 2}"
