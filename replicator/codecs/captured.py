"""
Rows of a database's tables, as a change data capture tells them, → points.

A value that an update did not touch may be left out, because the database keeps it apart from
its row (PostgreSQL does so with vectors of some length): a placeholder stands in its place.
What is known is then a patch. Where even that cannot be said, the row is rejected.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from replicator.codecs.keys import canonical_id
from replicator.codecs.numeric import is_finite
from replicator.codecs.payload import check_payload
from replicator.codecs.vectors import vector_from_wire
from replicator.codecs.walk import without_nulls
from replicator.codecs.wire import DECODE_ERRORS
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import PointId, Vectors


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """How the rows of one table are read."""

    key: tuple[str, ...]
    """Columns of the id. Several make one text: each percent-encoded, with slashes between."""
    vectors: Mapping[str, str]
    """Column → vector name."""
    payload: str = ""
    """A JSON column that holds the whole payload; else columns are fields of it."""
    fields: tuple[str, ...] = ()
    """These columns; empty: every one that is neither key nor vector."""
    json: tuple[str, ...] = ()
    """Those of them whose text is JSON."""
    schema: str = ""
    """Rows of tables in other schemas are not ours; empty: whichever."""


class Rows:
    """
    Reads the rows of tables.

    `integer_ids` as in EventDecoder. `place`: where a row stands in its document, for messages.
    `placeholder` stands for what an update did not touch, and `garbled` matches the texts that
    a writer makes of the placeholder besides.
    """

    def __init__(
        self,
        integer_ids: Mapping[str, bool | None],
        place: str,
        placeholder: str,
        garbled: re.Pattern[str] | None = None,
    ) -> None:
        self._integer_ids = integer_ids
        self._place = place
        self._garbled = garbled
        encoded = b64encode(placeholder.encode()).decode()
        # As text and as bytes, in an array and in a map.
        self._untouched: tuple[object, ...] = (
            placeholder,
            encoded,
            [placeholder],
            {placeholder: placeholder},
        )

    def key(
        self,
        collection: str,
        table: Table,
        fields: Mapping[str, Any],
        row: Mapping[str, Any],
    ) -> Key:
        """
        The key of a row, from the columns of a record's key, or else its own. Raises Rejected
        for one that is no id of the collection.
        """
        parts = [_key_column(name, fields, row) for name in table.key]
        integer = self._integer_ids.get(collection)
        point_id: PointId = parts[0]
        if len(parts) > 1:
            point_id = "/".join(quote(str(part), safe="") for part in parts)
        if integer is not None and isinstance(point_id, int) is not integer:
            expected = "an integer" if integer else "a text"
            raise Rejected(
                "field-type",
                f"the key is {point_id!r}, not {expected} as the collection's ids are",
                table.key[0],
            )
        return Key(collection, canonical_id(point_id, uuids=integer is None))

    def touched(self, row: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        """The row with what was not touched as it was before, where that is told."""
        # A null there is no value: what is kept apart from its row is none, and an identity
        # that is not whole leaves columns null that it does not hold.
        told = {name: value for name, value in before.items() if value is not None}
        return {
            name: told.get(name, value) if self._is_untouched(value) else value
            for name, value in row.items()
        }

    def image(
        self, key: Key, table: Table, ts_ms: int, row: dict[str, Any], *, partial: bool
    ) -> ChangeEvent:
        """
        The event of a row as it is now. `partial`: it may be a change, and not a row that was
        made. Raises Rejected("row-incomplete") for what is known too little of.
        """
        untouched = {name for name, value in row.items() if self._is_untouched(value)}
        vectors: Vectors = {}
        unset_vectors = []
        for column, name in table.vectors.items():
            if column not in row or column in untouched:
                continue
            if row[column] is None:
                unset_vectors.append(name)
                continue
            vectors[name] = _vector(row[column], f"{self._place}.{column}")
        payload = _payload(table, row, untouched, self._place)
        if not untouched.intersection(read_columns(table, row)):
            return ChangeEvent(
                op=Op.UPSERT, key=key, ts_ms=ts_ms, vectors=vectors, payload=payload or {}
            )
        if not partial or (table.payload and payload is not None):
            # A payload that is whole replaces the one before it, which a patch cannot.
            raise Rejected(
                "row-incomplete",
                f"{', '.join(sorted(untouched))} of the row is not told",
                f"{self._place}.{min(untouched)}",
            )
        set_, unset = without_nulls(payload or {}, ())
        return ChangeEvent(
            op=Op.PATCH,
            key=key,
            ts_ms=ts_ms,
            vectors=vectors,
            set=set_,
            unset=unset,
            unset_vectors=tuple(unset_vectors),
        )

    def _is_untouched(self, value: object) -> bool:
        if self._garbled is not None and isinstance(value, str):
            return value in self._untouched or self._garbled.fullmatch(value) is not None
        return value in self._untouched


def read_columns(table: Table, row: Mapping[str, Any]) -> set[str]:
    """The columns of a row that become a part of the point."""
    return {*table.vectors, *([table.payload] if table.payload else _fields(table, row))}


def _fields(table: Table, row: Mapping[str, Any]) -> list[str]:
    if table.fields:
        return [name for name in table.fields if name in row]
    return [name for name in row if name not in table.key and name not in table.vectors]


def _payload(
    table: Table, row: Mapping[str, Any], untouched: set[str], place: str
) -> dict[str, Any] | None:
    """What is known of it; None where it is one column, which is not told."""
    if table.payload:
        if table.payload in untouched or table.payload not in row:
            return None
        path = f"{place}.{table.payload}"
        value = _parsed(row[table.payload], path)
        payload = {} if value is None else value
        if type(payload) is not dict:
            raise wrong_type(path, "a JSON object", value)
        check_payload(payload, path)
        return payload
    payload = {
        name: _parsed(row[name], f"{place}.{name}") if name in table.json else row[name]
        for name in _fields(table, row)
        if name not in untouched
    }
    check_payload(payload, place)
    return payload


def _parsed(value: Any, path: str) -> Any:
    """A JSON column: text, or what a converter has read already."""
    return _from_text(value, path) if type(value) is str else value


def _from_text(text: str, path: str) -> Any:
    return read_json(text.encode("utf-8", "surrogatepass"), "field-invalid", path, path)


def _vector(value: object, path: str) -> bytes:
    if type(value) is str:
        if value.startswith("["):
            value = _from_text(value, path)
        else:
            try:
                value = b64decode(value, validate=True)
            except ValueError as exc:
                raise Rejected(
                    "field-invalid", f"{path} is neither a list nor base64", path
                ) from exc
    if type(value) not in (list, bytes):
        raise wrong_type(path, "an array, `[…]` or base64 of float32", value)
    vector = vector_from_wire(value, path)
    assert isinstance(vector, bytes)
    if not is_finite(vector):
        raise Rejected("vector-not-finite", f"{path} holds NaN or Infinity", path)
    return vector


def _key_column(name: str, fields: Mapping[str, Any], row: Mapping[str, Any]) -> int | str:
    if name not in fields and name not in row:
        raise Rejected("field-missing", f"neither key nor row has the column {name}", name)
    value = fields[name] if name in fields else row[name]
    if name in row and row[name] != value:
        raise Rejected("key-mismatch", f"{name} is another one in the key", name)
    if type(value) is int or type(value) is str:
        assert isinstance(value, (int, str))
        return value
    raise wrong_type(name, "an integer or a text", value)


def read_json(raw: bytes, code: str, what: str, path: str = "") -> Any:
    """Raises Rejected with the code for what is no JSON."""
    try:
        return msgspec.json.decode(raw)
    except DECODE_ERRORS as exc:
        raise Rejected(code, f"{what} is no JSON: {exc}", path) from exc


def field_map(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A field that must be there, and a map."""
    if fields.get(name) is None:
        raise Rejected("field-missing", f"{name} is missing", name)
    return optional_map(fields, name)


def optional_map(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A field that is a map, empty where there is none."""
    value = fields.get(name)
    if value is None:
        return {}
    if type(value) is not dict:
        raise wrong_type(name, "a map", value)
    return value


def field_text(fields: Mapping[str, Any], name: str, path: str = "") -> str:
    """A field that must be there, and a text."""
    value = fields.get(name)
    if value is None:
        raise Rejected("field-missing", f"{path or name} is missing", path or name)
    if type(value) is not str:
        raise wrong_type(path or name, "a text", value)
    assert isinstance(value, str)
    return value


def wrong_type(path: str, expected: str, value: object) -> Rejected:
    """The error for a value of another type."""
    kind = "null" if value is None else type(value).__name__
    return Rejected("field-type", f"{path} is {kind}, not {expected}", path)
