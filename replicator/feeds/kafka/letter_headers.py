"""
What is written about a dead letter, as record headers after those that it came with.

`replicator-error-code` begins our headers, so that the originals are told from ours even when a
dead letter is itself a record that was dead before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from replicator.feeds.kafka.connection import partition_name, partition_number
from replicator.model.event import Key
from replicator.model.letter import RejectedRecord
from replicator.model.point import bare, scope_of, within

_FIRST = "replicator-error-code"
_SCOPE = "replicator-scope"

_TEXT_MAX = 4096
"""Characters of a message kept. It explains a record, and must not be what makes it too
large."""

NO_KEY, NO_VALUE = "replicator-no-key", "replicator-no-value"
"""aiokafka refuses a record with neither key nor value; it is written with empty ones and
these."""


def to_headers(record: RejectedRecord) -> list[tuple[str, bytes]]:
    """The record's own headers, then ours."""
    headers = [
        *record.headers,
        (_FIRST, record.code.encode()),
        ("replicator-error", record.message[:_TEXT_MAX].encode(errors="replace")),
        ("replicator-path", record.path[:_TEXT_MAX].encode(errors="replace")),
        ("replicator-at", str(round(record.at * 1000)).encode()),
    ]
    if record.partition is not None:
        topic = record.partition.rpartition("/")[0]
        number = partition_number(record.partition)
        headers += [
            ("replicator-topic", topic.encode()),
            ("replicator-partition", str(number).encode()),
            ("replicator-offset", str(record.offset).encode()),
        ]
    if (key := record.event_key) is not None:
        point_id = bare(key.id)
        headers += [
            ("replicator-collection", key.collection.encode()),
            ("replicator-id", str(point_id).encode()),
            ("replicator-id-type", b"integer" if isinstance(point_id, int) else b"string"),
        ]
        if (scope := scope_of(key.id)) is not None:
            headers.append((_SCOPE, scope.encode()))
    if record.key is None and record.value is None:
        headers += [(NO_KEY, b""), (NO_VALUE, b"")]
    return headers


def from_headers(
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
) -> RejectedRecord | None:
    """The record as it was kept; None when these are not the headers of a dead letter."""
    begin = _last(name for name, _ in headers)
    if begin is None:
        return None
    ours = {name: content.decode() for name, content in headers[begin:]}
    partition = offset = event_key = None
    if "replicator-topic" in ours:
        partition = partition_name(ours["replicator-topic"], int(ours["replicator-partition"]))
        offset = int(ours["replicator-offset"])
    if "replicator-id" in ours:
        text = ours["replicator-id"]
        id_ = int(text) if ours["replicator-id-type"] == "integer" else text
        event_key = Key(ours["replicator-collection"], within(ours.get(_SCOPE), id_))
    return RejectedRecord(
        key=None if NO_KEY in ours else key,
        value=None if NO_VALUE in ours else value,
        headers=tuple(headers[:begin]),
        code=ours[_FIRST],
        path=ours["replicator-path"],
        message=ours["replicator-error"],
        at=int(ours["replicator-at"]) / 1000,
        partition=partition,
        offset=offset,
        event_key=event_key,
    )


def _last(names: Iterable[str]) -> int | None:
    found = [index for index, name in enumerate(names) if name == _FIRST]
    return found[-1] if found else None
