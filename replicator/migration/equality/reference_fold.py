"""
What the log says of one key, computed plainly: the reference that the last comparison believes.

The stream folds events while they wait, in pieces, with what was durable before. Would the
comparison use the same code, a fault in it would prove itself right. So this is written for
itself, from the contract's words, with one key and one event at a time:

- an upsert or a delete is the whole truth, unless its version is below the newest image's;
- one without a version ends the history, and what follows counts anew;
- a patch changes what it names of a point that is there, and has no place in that order;
- at the top level a null in a patch removes the field; anywhere else it is a value.

Imports nothing of `stream`, and is to stay so.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

import msgspec

from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import MultiVector, Point, SparseVector


class _Base(Enum):
    UNKNOWN = auto()
    """Nothing but patches so far: of a point that was there before, or of none."""
    THERE = auto()
    GONE = auto()


class _Removed(Enum):
    REMOVED = auto()


class LastWord:
    """The sum of a key's events, in the order of the log."""

    def __init__(self, version: int | None = None) -> None:
        """`version`: of the image that is known to have been applied before the first event."""
        self.version = version
        self.bytes = 0
        """About what the sum takes of memory."""
        self._base = _Base.UNKNOWN
        self._said = False
        self._fields: dict[str, Any] = {}
        self._vectors: dict[str, Any] = {}

    def read(self, event: ChangeEvent) -> None:
        """Take the next event in."""
        if event.op is Op.PATCH:
            self._said = True
            self._read_patch(event)
            return
        known = self.version
        if event.version is not None and known is not None and event.version < known:
            return  # it came too late
        self._said = True
        self.version = event.version
        self._base = _Base.GONE if event.op is Op.DELETE else _Base.THERE
        self._fields, self._vectors, self.bytes = {}, {}, 0
        for name, value in event.payload.items():
            self._put(self._fields, name, value)
        for name, vector in event.vectors.items():
            self._put(self._vectors, name, vector)

    def event(self, key: Key) -> ChangeEvent | None:
        """One event that says all of it; None when every event was void."""
        if not self._said:
            return None
        if self._base is _Base.GONE:
            return ChangeEvent(op=Op.DELETE, key=key, ts_ms=0, version=self.version)
        fields, no_fields = _parted(self._fields)
        vectors, no_vectors = _parted(self._vectors)
        if self._base is _Base.THERE:
            return ChangeEvent(
                op=Op.UPSERT,
                key=key,
                ts_ms=0,
                version=self.version,
                vectors=vectors,
                payload=fields,
            )
        return ChangeEvent(
            op=Op.PATCH,
            key=key,
            ts_ms=0,
            vectors=vectors,
            set=fields,
            unset=no_fields,
            unset_vectors=no_vectors,
        )

    def _read_patch(self, event: ChangeEvent) -> None:
        if self._base is _Base.GONE:
            return  # a patch of an absent point writes nothing
        for name in event.unset:
            self._put(self._fields, name, _Removed.REMOVED)
        for name in event.unset_vectors:
            self._put(self._vectors, name, _Removed.REMOVED)
        for name, value in event.set.items():
            self._put(self._fields, name, _Removed.REMOVED if value is None else value)
        for name, vector in event.vectors.items():
            self._put(self._vectors, name, vector)

    def _put(self, into: dict[str, Any], name: str, value: Any) -> None:
        if name in into:
            self.bytes -= _bytes_of(into[name])
        into[name] = value
        self.bytes += _bytes_of(value)


def size_of(point: Point) -> int:
    """About what a point takes of memory."""
    return sum(map(_bytes_of, point.vectors.values())) + _bytes_of(point.payload)


def _parted(said: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    given = {name: value for name, value in said.items() if value is not _Removed.REMOVED}
    return given, tuple(name for name in said if name not in given)


def _bytes_of(value: Any) -> int:
    match value:
        case bytes():
            return len(value)
        case SparseVector(indices, values):
            return len(indices) + len(values)
        case MultiVector(_, data):
            return len(data)
        case _Removed():
            return 0
        case _:
            return len(msgspec.msgpack.encode(value))
