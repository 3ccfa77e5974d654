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

A null that a patch sets at the top level removes the field, as in every store; the decoder has
made it an `unset`, and what is handed here otherwise is read the same way. Whether an image may
follow another at all, its version says (`coalesce`), not the fold.
"""

from __future__ import annotations

from typing import Any, assert_never

from replicator.model.event import ChangeEvent, Op
from replicator.model.point import Point
from replicator.model.write import apply_patch, merged


def fold(first: ChangeEvent | None, second: ChangeEvent) -> ChangeEvent:
    """
    The one event that does what `first` and then `second` do.

    Time, epoch, writer and trace are those of the later event; the version is that of the image
    or the delete in it. A patch has no place in the order of versions, so its own is dropped.
    """
    if first is None:
        return second
    assert first.key == second.key, "only events of one key fold"

    match second.op:
        case Op.UPSERT | Op.DELETE:
            return second
        case Op.PATCH:
            return _fold_patch(first, second)
        case _:
            assert_never(second.op)


def _fold_patch(first: ChangeEvent, second: ChangeEvent) -> ChangeEvent:
    later = ChangeEvent(
        op=first.op,
        key=second.key,
        ts_ms=second.ts_ms,
        version=None if first.op is Op.PATCH else first.version,
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
            later.set = merged(first.set, second.set, second.unset)
            later.vectors = merged(first.vectors, second.vectors, second.unset_vectors)
            later.unset = _union(first.unset, second.unset, later.set)
            later.unset_vectors = _union(
                first.unset_vectors, second.unset_vectors, later.vectors
            )
        case _:
            assert_never(first.op)
    return later


def _union(
    first: tuple[str, ...], second: tuple[str, ...], but: dict[str, Any]
) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(first + second) if name not in but)
