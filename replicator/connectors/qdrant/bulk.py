"""
Deferred indexing, remembered in the collection itself.

Building the index while a copy runs does the work several times over, so a collection that we
create has its indexing switched off (`indexing_threshold` 0) until the copy is done. What must
be put back, and that we owe it, stands in the collection's metadata beside the capture mark: a
restart, or another machine, finds it there.

    created ── first ensure, still empty ──► deferred ── finish_bulk ──► restored
       ▲                                                                    │
       └───────────────────────────── wipe ─────────────────────────────────┘
"""

from __future__ import annotations

from enum import Enum

from replicator.connectors.qdrant.values import read_value
from replicator.connectors.qdrant.wire import Message

CAPTURE_KEY = "replicator_capture_id"
"""Metadata key of the mark that ties a collection to one capture."""

EPOCH_KEY, INCARNATION_KEY = "replicator_epoch", "replicator_incarnation"
"""Metadata keys of the rest of the mark."""

INDEXING_KEY = "replicator_indexing"
"""Metadata key of what this module remembers."""

_THRESHOLD_KB = 10_000
"""Qdrant's own default, for a server that does not say what is in force."""


class Indexing(Enum):
    """Where a collection's indexing stands; FOREIGN for one that we did not create."""

    FOREIGN = "foreign"
    CREATED = "created"
    DEFERRED = "deferred"
    RESTORED = "restored"


def read_indexing(info: Message) -> Indexing:
    """What the metadata says."""
    stored = _stored(info.config.metadata)
    try:
        return Indexing(stored.get("state", Indexing.FOREIGN.value))
    except ValueError:
        return Indexing.FOREIGN


def write_created(request: Message) -> None:
    """Note in a `CreateCollection` that we made it."""
    _note(request.metadata, Indexing.CREATED, None)


def write_deferral(request: Message, info: Message) -> None:
    """Switch indexing off in an `UpdateCollection`, and note what to put back."""
    optimizers = info.config.optimizer_config
    threshold = optimizers.indexing_threshold or _THRESHOLD_KB
    _note(request.metadata, Indexing.DEFERRED, threshold)
    request.optimizers_config.indexing_threshold = 0


def write_restoration(request: Message, info: Message) -> None:
    """Switch indexing on again in an `UpdateCollection`, in the same request as the note."""
    threshold = deferred_threshold(info)
    _note(request.metadata, Indexing.RESTORED, threshold)
    request.optimizers_config.indexing_threshold = threshold


def write_fresh(request: Message, info: Message) -> None:
    """Make a `CreateCollection` that was copied from `info` as if we had just created it."""
    if read_indexing(info) is Indexing.FOREIGN:
        return
    if read_indexing(info) is Indexing.DEFERRED:
        request.optimizers_config.indexing_threshold = deferred_threshold(info)
    _note(request.metadata, Indexing.CREATED, None)


def deferred_threshold(info: Message) -> int:
    """The threshold to put back, in KB of vectors."""
    threshold = _stored(info.config.metadata).get("threshold_kb")
    return threshold if isinstance(threshold, int) and threshold > 0 else _THRESHOLD_KB


def _stored(metadata: Message) -> dict[str, object]:
    found = read_value(metadata[INDEXING_KEY]) if INDEXING_KEY in metadata else None
    return found if isinstance(found, dict) else {}


def _note(metadata: Message, state: Indexing, threshold_kb: int | None) -> None:
    fields = metadata[INDEXING_KEY].struct_value.fields
    fields["state"].string_value = state.value
    if threshold_kb is not None:
        fields["threshold_kb"].integer_value = threshold_kb
