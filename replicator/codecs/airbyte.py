"""
Change events as Airbyte writes them: messages of its protocol, or what its Kafka destination
makes of them, in JSON.

A `RECORD` is a row of a stream as it is now, whether it was made, changed or read. Three things
are not as they seem:

- A row that was deleted is one more record. That it is gone stands in a column,
  `_ab_cdc_deleted_at`; what else the record says of the row is mostly null.
- Airbyte passes on what stands for a value that an update did not touch, and for columns of
  some types makes the name of a Java object of it. Such a row was changed, and not made: it
  becomes a patch.
- `meta` names the columns that Airbyte cut short or emptied on the way: what stands there was
  never the row's value, and the record is rejected.

A record's key says nothing: the Kafka destination gives each a new one. So the records of a row
have an order in one partition only, and the preflight refuses more.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from replicator.codecs.captured import (
    Rows,
    Table,
    field_map,
    field_text,
    optional_map,
    read_columns,
    read_json,
    wrong_type,
)
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.position import Record

_WITHOUT_ROWS = frozenset(
    {
        *("STATE", "LOG", "TRACE", "CONTROL", "SPEC", "CATALOG"),
        *("CONNECTION_STATUS", "DESTINATION_CATALOG"),
    }
)
"""Messages that a reader of rows has no use for. `STATE` is Airbyte's own position."""

_OURS = "_ab_cdc_"
"""What the columns begin with that Airbyte adds to a row."""
_DELETED = "_ab_cdc_deleted_at"
_UPDATED = "_ab_cdc_updated_at"
_DATA = "_airbyte_data"
_GARBLED = re.compile(r"java\.lang\.Object@[0-9a-f]{1,8}")
"""What Airbyte writes for a text that an update did not touch (airbytehq/airbyte #30518)."""


class _Row(msgspec.Struct):
    """A row, and where it stands in its message."""

    stream: str
    table: Table
    data: dict[str, Any]
    emitted_at: object
    rows: Rows
    changes: object


class AirbyteDecoder:
    """
    A `ports.feed.Decoder` of the streams that the migration lists, by name: the name of a
    stream is that of its collection.

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
        self._rows = {
            place: Rows(integer_ids, place, placeholder, _GARBLED)
            for place in ("record.data", _DATA)
        }

    def decode(self, record: Record) -> ChangeEvent | None:
        """See `Decoder.decode`."""
        row = self._row(record)
        if row is None:
            return None
        key = row.rows.key(row.stream, row.table, {}, row.data)
        _check_whole(row, row.table.key)
        ts_ms = _time(row, record)
        if row.data.get(_DELETED) is not None:
            return ChangeEvent(op=Op.DELETE, key=key, ts_ms=ts_ms)
        told = {name: each for name, each in row.data.items() if not name.startswith(_OURS)}
        _check_whole(row, read_columns(row.table, told))
        return row.rows.image(key, row.table, ts_ms, told, partial=True)

    def key(self, record: Record) -> Key | None:
        """See `Decoder.key`."""
        try:
            row = self._row(record)
            return None if row is None else row.rows.key(row.stream, row.table, {}, row.data)
        except Rejected:
            return None

    def _row(self, record: Record) -> _Row | None:
        """None for what is no row of a stream that is listed."""
        message = self._message(record)
        if "type" not in message and _DATA in message:
            stream = field_text(message, "_airbyte_stream")
            return self._found(stream, message, _DATA, message.get("_airbyte_emitted_at"))
        told = field_text(message, "type")
        if told in _WITHOUT_ROWS:
            return None
        if told != "RECORD":
            known = ", ".join(sorted(_WITHOUT_ROWS))
            raise Rejected("field-invalid", f"type is {told!r}, not RECORD or {known}", "type")
        row = field_map(message, "record")
        stream = field_text(row, "stream", "record.stream")
        return self._found(stream, row, "record.data", row.get("emitted_at"))

    def _found(
        self, stream: str, fields: dict[str, Any], place: str, emitted_at: object
    ) -> _Row | None:
        table = self._tables.get(stream)
        if table is None:
            return None
        namespace = fields.get("namespace")
        if table.schema and namespace is None:
            raise Rejected(
                "field-missing",
                f"the record of {stream} does not say of which schema it is: where the topic"
                " holds one only, take `schema` out of feed.tables",
                "record.namespace",
            )
        if table.schema and namespace != table.schema:
            return None
        return _Row(
            stream=stream,
            table=table,
            data=field_map(fields, place.rpartition(".")[2]),
            emitted_at=emitted_at,
            rows=self._rows[place],
            changes=optional_map(fields, "meta").get("changes"),
        )

    def _message(self, record: Record) -> dict[str, Any]:
        if record.value is None:
            raise Rejected("value-malformed", "a null value says of no row; Airbyte has none")
        if len(record.value) > self._value_bytes_max:
            raise Rejected(
                "value-too-large",
                f"the value has {len(record.value)} bytes, over the limit of "
                f"{self._value_bytes_max}",
            )
        value = read_json(record.value, "value-malformed", "the value")
        if type(value) is not dict:
            raise Rejected("value-malformed", "the value is no JSON object")
        return value


def _check_whole(row: _Row, columns: Collection[str]) -> None:
    """Raises Rejected("row-incomplete") where Airbyte changed one of these columns."""
    if not row.changes:
        return
    path = "record.meta.changes"
    if type(row.changes) is not list:
        raise wrong_type(path, "a list", row.changes)
    for change in row.changes:
        if type(change) is not dict or type(change.get("field")) is not str:
            raise Rejected("field-type", f"{path} holds what names no field", path)
        if change["field"] in columns:
            raise Rejected(
                "row-incomplete",
                f"{change['field']} is not the row's value: {change.get('change')},"
                f" {change.get('reason')}",
                path,
            )


def _time(row: _Row, record: Record) -> int:
    """When the row was changed, as nearly as is told, in milliseconds."""
    told = row.data.get(_UPDATED)
    if isinstance(told, str):
        try:
            moment = datetime.fromisoformat(told)
        except ValueError:
            pass  # another source's way to write it: the next best is told as well
        else:
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            return max(int(moment.timestamp() * 1000), 0)
    for other in (row.emitted_at, record.at_ms):
        if type(other) is int and other > 0:
            return other
    return 0
