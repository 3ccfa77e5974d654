"""
Change events as Debezium writes them: rows in envelopes, in JSON, with schemas or without.

An envelope says what happened to a row (`c`, `u`, `r`, `d`), in which table, and how the row is
now. It becomes an upsert of the whole row or a delete. Three things are not as they seem:

- A value that an update did not touch may be left out (`captured`). Where the row before the
  change is told, it fills the gap.
- A delete is followed by a null value under the same key, which is all that compaction leaves.
  So a null value is a delete too, although it says of no table.
- A truncated table (`t`) says nothing of the keys it held: it is rejected, and a verification
  finds what it left at the target.

Keys are read from the record's key, a struct of the key columns. Its bytes decide over the
partition, and are never spelled anew here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replicator.codecs.captured import (
    Rows,
    Table,
    field_map,
    field_text,
    optional_map,
    read_json,
)
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.position import Record

_ROWS = frozenset({"c", "u", "r"})
_KEY_SCHEMA = ".Key"


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
        self._value_bytes_max = value_bytes_max
        self._rows = Rows(integer_ids, "after", placeholder)

    def decode(self, record: Record) -> ChangeEvent | None:
        """See `Decoder.decode`."""
        envelope = self._envelope(record)
        if envelope is None:
            found = self._of_key(record)
            if found is None:
                return None
            key = self._rows.key(*found, _key_fields(record)[0], {})
            return ChangeEvent(op=Op.DELETE, key=key, ts_ms=max(record.at_ms, 0))
        op = field_text(envelope, "op")
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
        before = optional_map(envelope, "before")
        if op == "d":
            key = self._rows.key(collection, table, fields, before)
            return ChangeEvent(op=Op.DELETE, key=key, ts_ms=ts_ms)
        if op not in _ROWS:
            raise Rejected("field-invalid", f"op is {op!r}, not one of c, u, r, d, t", "op")
        row = field_map(envelope, "after")
        key = self._rows.key(collection, table, fields, row)
        row = self._rows.touched(row, before)
        return self._rows.image(key, table, ts_ms, row, partial=op == "u")

    def key(self, record: Record) -> Key | None:
        """See `Decoder.key`."""
        try:
            envelope = self._envelope(record)
            found = self._of_key(record) if envelope is None else self._of_source(envelope)
            if found is None:
                return None
            return self._rows.key(*found, _key_fields(record)[0], {})
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
        value = read_json(record.value, "value-malformed", "the value")
        return None if value is None else _unwrapped(value, "value-malformed", "the value")

    def _of_source(self, envelope: dict[str, Any]) -> tuple[str, Table] | None:
        """The collection and its table; None where it is not ours."""
        source = field_map(envelope, "source")
        name = field_text(source, "table", "source.table")
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


def _key_fields(record: Record) -> tuple[dict[str, Any], str]:
    """The columns of a record's key, and the name of its schema where it has one."""
    if record.key is None:
        raise Rejected(
            "key-missing",
            "the record has no key: the table needs a primary key, or the connector "
            "message.key.columns",
        )
    value = read_json(record.key, "key-invalid", "the key")
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


def _time(envelope: Mapping[str, Any], record: Record) -> int:
    """When the row was changed, as nearly as is told."""
    for told in (envelope["source"].get("ts_ms"), envelope.get("ts_ms"), record.at_ms):
        if type(told) is int and told > 0:
            return told
    return 0
