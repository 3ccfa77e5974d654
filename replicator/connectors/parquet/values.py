"""
Values of other columns, as JSON values of a payload.

What JSON has stays as it is. A timestamp or a date becomes its ISO 8601 text, to the last digit
that it has and in UTC where it has a zone; a decimal the text of its digits, which a float
would round. A null stays a null. Of what is left (bytes, durations, times of day, maps whose
keys are no texts) a row is rejected, by the path.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from replicator.codecs.payload import join
from replicator.connectors.parquet.vectors import bare_array
from replicator.errors import Rejected

At = Callable[[int], Any]
"""The value of a row. Raises Rejected."""

_TYPES = pa.types
_PLAIN = (
    _TYPES.is_null,
    _TYPES.is_boolean,
    _TYPES.is_integer,
    _TYPES.is_floating,
    _TYPES.is_string,
    _TYPES.is_large_string,
    _TYPES.is_string_view,
)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def values_at(array: Any, path: str) -> At:
    """How to read the values of a column of a batch."""
    array = bare_array(array)
    if _is_plain(array.type):
        return lambda row: array[row].as_py()
    return lambda row: _value(array[row], path)


def _is_plain(kind: Any) -> bool:
    return any(is_one(kind) for is_one in _PLAIN)


def _value(scalar: Any, path: str) -> Any:
    if not scalar.is_valid:
        return None
    kind = scalar.type
    if _is_plain(kind):
        return scalar.as_py()
    if _TYPES.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        return _value(scalar.value, path)
    if _TYPES.is_nested(kind):
        return _nested(scalar, path)
    if _TYPES.is_timestamp(kind):
        return _instant(scalar, path)
    if _TYPES.is_date(kind):
        return scalar.as_py().isoformat()
    if _TYPES.is_decimal(kind):
        return str(scalar.as_py())
    raise Rejected("field-type", f"{path} is a {kind}, which no payload holds", path)


def _nested(scalar: Any, path: str) -> Any:
    if _TYPES.is_map(scalar.type):
        return _map(scalar, path)
    if _TYPES.is_struct(scalar.type):
        return {name: _value(scalar[name], join(path, name)) for name in scalar}
    return [_value(each, join(path, place)) for place, each in enumerate(scalar.values)]


def _map(scalar: Any, path: str) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for pair in scalar.values:
        name = pair[0].as_py()
        if type(name) is not str:
            raise Rejected("field-type", f"{path} is a map whose keys are no texts", path)
        pairs[name] = _value(pair[1], join(path, name))
    return pairs


def _instant(scalar: Any, path: str) -> str:
    per_second = _PER_SECOND[scalar.type.unit]
    seconds, rest = divmod(scalar.value, per_second)
    try:
        text = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    except OverflowError as exc:
        raise Rejected("field-invalid", f"{path} is no time of our calendar", path) from exc
    if rest:
        digits = len(str(per_second)) - 1
        text += f".{rest:0{digits}}".rstrip("0")
    return text + ("Z" if scalar.type.tz else "")
