"""
Conditions in Milvus's language of filters.

A key is spelled as a literal that no text can break out of: quotes, backslashes and line breaks
are escaped, as in JSON. Other characters stand as they are, control characters too: the server
and milvus-lite understand different escapes of those, and both the characters.
"""

from __future__ import annotations

from collections.abc import Sequence

from replicator.model.point import BareId

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})
INT64_MAX = (1 << 63) - 1


def literal(value: str | float | bool) -> str:
    """A text, a number or a truth value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    return repr(value)


def listed(ids: Sequence[BareId]) -> str:
    """Values in brackets."""
    return f"[{', '.join(map(literal, ids))}]"


def between(key: str, after: BareId | None, to: BareId | None, *, texts: bool) -> str:
    """`after` < key <= `to`; every key there is where both are open."""
    told = []
    if after is not None:
        told.append(f"{key} > {literal(after)}")
    if to is not None:
        told.append(f"{key} <= {literal(to)}")
    if told:
        return " and ".join(told)
    return f'{key} >= ""' if texts else f"{key} <= {INT64_MAX}"
