"""
Change events as Debezium writes them: rows in envelopes, in JSON, with schemas or without.

An envelope says what happened to a row (`c`, `u`, `r`, `d`), in which table, and how the row is
now. It becomes an upsert of the whole row or a delete. Three things are not as they seem:

- A value that an update did not touch may be left out, because the database keeps it apart from
  its row (PostgreSQL does so with vectors of some length): a placeholder stands in its place.
  What is known is then a patch. Where even that cannot be said, the record is rejected.
- A delete is followed by a null value under the same key, which is all that compaction leaves.
  So a null value is a delete too, although it says of no table.
- A truncated table (`t`) says nothing of the keys it held: it is rejected, and a verification
  finds what it left at the target.

Keys are read from the record's key, a struct of the key columns. Its bytes decide over the
partition, and are never spelled anew here.
"""

from __future__ import annotations

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
from replicator.model.position import Record

_ROWS = frozenset({"c", "u", "r"})
_KEY_SCHEMA = ".Key"


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


class DebeziumDecoder:
    """
    A `ports.feed.Decoder` of the tables that the migration lists, by name: the name of a table
    is that of its collection.

    `integer_ids` as in EventDecoder. `placeholder` stands for what an update did not touch.
    """

    def __init__(
        self,
        tables: Mapping[str, Table],
        integer_ids: Mapping[str, bool | None],
        value_bytes_max: int,
        placeholder: str,
    ) -> None:
        self._tables = tables
        self._integer_ids = integer_ids
        self._value_bytes_max = value_bytes_max
        encoded = b64encode(placeholder.encode()).decode()
        # As text and as bytes, in an array and in a map.
        self._untouched: tuple[object, ...] = (
            placeholder,
            encoded,
            [placeholder],
            {placeholder: placeholder},
        )

    def decode(self, record: Record) -> ChangeEvent | None:
        """See `Decoder.decode`."""
        envelope = self._envelope(record)
        if envelope is None:
            found = self._of_key(record)
            if found is None:
                return None
            key = self._key(*found, _key_fields(record)[0], {})
            return ChangeEvent(op=Op.DELETE, key=key, ts_ms=max(record.at_ms, 0))
        op = _text(envelope, "op")
        if op == "m":  # a message of the database, and no row
            return None
        found = self._of_source(envelope)
        if found is None:
            return None
        collection, table = found
        if op == "t":
            raise Rejected(
                "table-truncated",
                f"the table {collection} was truncated: which keys it held is not said",
                "op",
            )
        fields, _ = _key_fields(record)
        ts_ms = _time(envelope, record)
        before = _optional_map(envelope, "before")
        if op == "d":
            key = self._key(collection, table, fields, before)
            return ChangeEvent(op=Op.DELETE, key=key, ts_ms=ts_ms)
        if op not in _ROWS:
            raise Rejected("field-invalid", f"op is {op!r}, not one of c, u, r, d, t", "op")
        row = _map(envelope, "after")
        key = self._key(collection, table, fields, row)
        return self._image(key, table, op, ts_ms, self._touched(row, before))

    def key(self, record: Record) -> Key | None:
        """See `Decoder.key`."""
        try:
            envelope = self._envelope(record)
            found = self._of_key(record) if envelope is None else self._of_source(envelope)
            if found is None:
                return None
            return self._key(*found, _key_fields(record)[0], {})
        except Rejected:
            return None

    def _envelope(self, record: Record) -> dict[str, Any] | None:
        """None for a null value."""
        if record.value is None:
            return None
        if len(record.value) > self._value_bytes_max:
            raise Rejected(
                "value-too-large",
                f"the value has {len(record.value)} bytes, over the limit of "
                f"{self._value_bytes_max}",
            )
        value = _json(record.value, "value-malformed", "the value")
        return None if value is None else _unwrapped(value, "value-malformed", "the value")

    def _of_source(self, envelope: dict[str, Any]) -> tuple[str, Table] | None:
        """The collection and its table; None where it is not ours."""
        source = _map(envelope, "source")
        name = _text(source, "table", "source.table")
        table = self._tables.get(name)
        if table is None:
            return None
        # What PostgreSQL calls a schema is a database to MySQL.
        where = source.get("schema") or source.get("db")
        return None if table.schema and where != table.schema else (name, table)

    def _of_key(self, record: Record) -> tuple[str, Table] | None:
        """As `_of_source`, where only the key can tell."""
        _, name = _key_fields(record)
        if name:
            *above, schema, collection = ["", *name.removesuffix(_KEY_SCHEMA).split(".")]
            table = self._tables.get(collection)
            foreign = table is None or (table.schema and above and schema != table.schema)
            return None if table is None or foreign else (collection, table)
        if len(self._tables) == 1:
            return next(iter(self._tables.items()))
        raise Rejected(
            "key-invalid",
            "a null value whose key does not say of which table it is: let the key converter "
            "write schemas, or give each table a topic",
        )

    def _key(
        self,
        collection: str,
        table: Table,
        fields: Mapping[str, Any],
        row: Mapping[str, Any],
    ) -> Key:
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

    def _touched(self, row: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        """The row with what was not touched as it was before, where that is told."""
        # A null there is no value: what is kept apart from its row is none, and an identity
        # that is not whole leaves columns null that it does not hold.
        told = {name: value for name, value in before.items() if value is not None}
        return {
            name: told.get(name, value) if value in self._untouched else value
            for name, value in row.items()
        }

    def _image(
        self, key: Key, table: Table, op: str, ts_ms: int, row: dict[str, Any]
    ) -> ChangeEvent:
        untouched = {name for name, value in row.items() if value in self._untouched}
        vectors: Vectors = {}
        unset_vectors = []
        for column, name in table.vectors.items():
            if column not in row or column in untouched:
                continue
            if row[column] is None:
                unset_vectors.append(name)
                continue
            vectors[name] = _vector(row[column], f"after.{column}")
        payload = _payload(table, row, untouched)
        if not untouched.intersection(_read(table, row)):
            return ChangeEvent(
                op=Op.UPSERT, key=key, ts_ms=ts_ms, vectors=vectors, payload=payload or {}
            )
        if op != "u" or (table.payload and payload is not None):
            # A payload that is whole replaces the one before it, which a patch cannot.
            raise Rejected(
                "row-incomplete",
                f"{', '.join(sorted(untouched))} of the row is not told",
                f"after.{min(untouched)}",
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


def _read(table: Table, row: Mapping[str, Any]) -> set[str]:
    """The columns of a row that become a part of the point."""
    return {*table.vectors, *([table.payload] if table.payload else _fields(table, row))}


def _fields(table: Table, row: Mapping[str, Any]) -> list[str]:
    if table.fields:
        return [name for name in table.fields if name in row]
    return [name for name in row if name not in table.key and name not in table.vectors]


def _payload(
    table: Table, row: Mapping[str, Any], untouched: set[str]
) -> dict[str, Any] | None:
    """What is known of it; None where it is one column, which is not told."""
    if table.payload:
        if table.payload in untouched or table.payload not in row:
            return None
        path = f"after.{table.payload}"
        value = _parsed(row[table.payload], path)
        payload = {} if value is None else value
        if type(payload) is not dict:
            raise _wrong(path, "a JSON object", value)
        check_payload(payload, path)
        return payload
    payload = {
        name: _parsed(row[name], f"after.{name}") if name in table.json else row[name]
        for name in _fields(table, row)
        if name not in untouched
    }
    check_payload(payload, "after")
    return payload


def _parsed(value: Any, path: str) -> Any:
    """A JSON column: text, or what a converter has read already."""
    return _from_text(value, path) if type(value) is str else value


def _from_text(text: str, path: str) -> Any:
    return _json(text.encode("utf-8", "surrogatepass"), "field-invalid", path, path)


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
        raise _wrong(path, "an array, `[…]` or base64 of float32", value)
    vector = vector_from_wire(value, path)
    assert isinstance(vector, bytes)
    if not is_finite(vector):
        raise Rejected("vector-not-finite", f"{path} holds NaN or Infinity", path)
    return vector


def _key_fields(record: Record) -> tuple[dict[str, Any], str]:
    """The columns of a record's key, and the name of its schema where it has one."""
    if record.key is None:
        raise Rejected(
            "key-missing",
            "the record has no key: the table needs a primary key, or the connector "
            "message.key.columns",
        )
    value = _json(record.key, "key-invalid", "the key")
    schema = value.get("schema") if type(value) is dict and "payload" in value else None
    name = schema.get("name") if type(schema) is dict else None
    fields = _unwrapped(value, "key-invalid", "the key")
    return fields, name if type(name) is str else ""


def _unwrapped(value: object, code: str, what: str) -> Any:
    """A document without its schema."""
    if type(value) is dict and value.keys() == {"schema", "payload"}:
        value = value["payload"]
        if value is None and code == "value-malformed":
            return None
    if type(value) is not dict:
        raise Rejected(code, f"{what} is no JSON object")
    return value


def _key_column(name: str, fields: Mapping[str, Any], row: Mapping[str, Any]) -> int | str:
    if name not in fields and name not in row:
        raise Rejected("field-missing", f"neither key nor row has the column {name}", name)
    value = fields[name] if name in fields else row[name]
    if name in row and row[name] != value:
        raise Rejected("key-mismatch", f"{name} is another one in the key", name)
    if type(value) is int or type(value) is str:
        assert isinstance(value, (int, str))
        return value
    raise _wrong(name, "an integer or a text", value)


def _time(envelope: Mapping[str, Any], record: Record) -> int:
    """When the row was changed, as nearly as is told."""
    for told in (envelope["source"].get("ts_ms"), envelope.get("ts_ms"), record.at_ms):
        if type(told) is int and told > 0:
            return told
    return 0


def _json(raw: bytes, code: str, what: str, path: str = "") -> Any:
    try:
        return msgspec.json.decode(raw)
    except DECODE_ERRORS as exc:
        raise Rejected(code, f"{what} is no JSON: {exc}", path) from exc


def _map(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    if fields.get(name) is None:
        raise Rejected("field-missing", f"{name} is missing", name)
    return _optional_map(fields, name)


def _optional_map(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    if value is None:
        return {}
    if type(value) is not dict:
        raise _wrong(name, "a map", value)
    return value


def _text(fields: Mapping[str, Any], name: str, path: str = "") -> str:
    value = fields.get(name)
    if value is None:
        raise Rejected("field-missing", f"{path or name} is missing", path or name)
    if type(value) is not str:
        raise _wrong(path or name, "a text", value)
    assert isinstance(value, str)
    return value


def _wrong(path: str, expected: str, value: object) -> Rejected:
    kind = "null" if value is None else type(value).__name__
    return Rejected("field-type", f"{path} is {kind}, not {expected}", path)
