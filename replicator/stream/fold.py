"""
Folding: two changes of one key become one change with the same effect.

For the effect of events, read `first` then `second` on any image, absent ones included:

    anything + upsert = upsert      the image is replaced whole
    anything + delete = delete
    upsert   + patch  = upsert      the patch is applied to the image that the event carries
    patch    + patch  = patch       what the later one says of a field or vector wins
    delete   + patch  = delete      a patch of an absent point writes nothing

So a delete only ever gives way to an upsert that follows it (Invariant 3). Folding is done in
source terms, before the transform, where it is exact. The inputs are never changed: events are
shared with whoever else holds the record.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from replicator.model.event import ChangeEvent, Op
from replicator.model.point import Point
from replicator.model.write import Patch

_Map = dict[str, Any]


def fold(first: ChangeEvent | None, second: ChangeEvent) -> ChangeEvent:
    """
    The one event that does what `first` and then `second` do.

    Time, epoch, writer and trace are those of the later event; the version is the highest of
    both, so that an older event that arrives afterwards is still known as older.
    """
    if first is None:
        return second
    assert first.key == second.key, "only events of one key fold"

    version = _highest(first.version, second.version)
    match second.op:
        case Op.UPSERT | Op.DELETE:
            if version == second.version:
                return second
            return msgspec.structs.replace(second, version=version)
        case Op.PATCH:
            return _fold_patch(first, second, version)
        case _:
            assert_never(second.op)


def _fold_patch(first: ChangeEvent, second: ChangeEvent, version: int | None) -> ChangeEvent:
    later = ChangeEvent(
        op=first.op,
        key=second.key,
        ts_ms=second.ts_ms,
        version=version,
        epoch=second.epoch,
        writer=second.writer,
        traceparent=second.traceparent,
    )
    match first.op:
        case Op.DELETE:
            pass
        case Op.UPSERT:
            image = apply_patch(Point(first.key.id, first.vectors, first.payload), second)
            later.vectors = image.vectors
            later.payload = image.payload
        case Op.PATCH:
            later.set = _merge(first.set, second.set, second.unset)
            later.vectors = _merge(first.vectors, second.vectors, second.unset_vectors)
            later.unset = _union(first.unset, second.unset, later.set)
            later.unset_vectors = _union(
                first.unset_vectors, second.unset_vectors, later.vectors
            )
        case _:
            assert_never(first.op)
    return later


def apply_patch(image: Point, patch: ChangeEvent | Patch) -> Point:
    """
    The image after the patch, as a new point with the image's id.

    What a patch both removes and sets is set: the decoder rejects it for payload keys, and for
    vectors to name one twice can only mean its new value.
    """
    return Point(
        image.id,
        _merge(image.vectors, patch.vectors, patch.unset_vectors),
        _merge(image.payload, patch.set, patch.unset),
    )


def _merge(base: _Map, changes: _Map, removed: tuple[str, ...]) -> _Map:
    merged = base.copy()
    for name in removed:
        merged.pop(name, None)
    merged.update(changes)
    return merged


def _union(first: tuple[str, ...], second: tuple[str, ...], but: _Map) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(first + second) if name not in but)


def _highest(first: int | None, second: int | None) -> int | None:
    if first is None or second is None:
        return second if first is None else first
    return max(first, second)
