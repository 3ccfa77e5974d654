"""
Settings that wait for the end of the bulk load, and the note that they do.

Building the index while a copy runs does the work several times over, so a collection that we
create has its indexing switched off (`indexing_threshold` 0) until the copy is done; and strict
mode is for the application's requests, not for our pages and batches. That we owe them stands
in the collection's metadata beside the capture mark: a restart, or another machine, finds it
there. What they are says the plan (`configuration.update`); the note keeps the threshold too,
for an end without one.

    created ── first ensure, still empty ──► deferred ── finish_bulk ──► restored
       ▲                                                                    │
       └───────────────────────────── wipe ─────────────────────────────────┘

A collection that `ensure` makes is deferred from the start: one request, nothing in between.
"""

from __future__ import annotations

from enum import Enum

from replicator.connectors.qdrant.values import read_value
from replicator.connectors.qdrant.wire import Message

OURS = "replicator_"
"""Metadata keys that begin with it are a replicator's own, and do not travel."""

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


def write_deferred_creation(request: Message, *, indexing: bool) -> None:
    """Take out of a `CreateCollection` what waits for the end, and note that it does."""
    optimizers = request.optimizers_config
    _note(request.metadata, Indexing.DEFERRED, _threshold(optimizers))
    if indexing:
        optimizers.indexing_threshold = 0
        # Points would be hidden until an index is built that is not being built.
        optimizers.ClearField("prevent_unoptimized")
    request.ClearField("strict_mode_config")


def write_deferral(request: Message, info: Message, *, indexing: bool) -> None:
    """Switch off in an `UpdateCollection` what waits for the end, and note that it does."""
    optimizers = info.config.optimizer_config
    _note(request.metadata, Indexing.DEFERRED, _threshold(optimizers))
    if indexing:
        request.optimizers_config.indexing_threshold = 0
        if optimizers.prevent_unoptimized:
            request.optimizers_config.prevent_unoptimized = False
    if info.config.strict_mode_config.enabled:
        request.strict_mode_config.enabled = False


def write_restoration(request: Message, info: Message) -> None:
    """Switch indexing on again in an `UpdateCollection`, in the same request as the note."""
    optimizers = request.optimizers_config
    if not optimizers.HasField("indexing_threshold"):
        optimizers.indexing_threshold = deferred_threshold(info)
    _note(request.metadata, Indexing.RESTORED, optimizers.indexing_threshold)


def write_fresh(request: Message, info: Message) -> None:
    """Make a `CreateCollection` that was copied from `info` as if we had just created it."""
    if read_indexing(info) is Indexing.FOREIGN:
        return
    if read_indexing(info) is Indexing.DEFERRED:
        request.optimizers_config.indexing_threshold = deferred_threshold(info)
    _note(request.metadata, Indexing.CREATED, None)


def deferred_threshold(info: Message) -> int:
    """The threshold to put back, in KB of vectors; 0 where it was never to be indexed."""
    threshold = _stored(info.config.metadata).get("threshold_kb")
    return threshold if isinstance(threshold, int) else _THRESHOLD_KB


def _threshold(optimizers: Message) -> int:
    if not optimizers.HasField("indexing_threshold"):
        return _THRESHOLD_KB
    threshold: int = optimizers.indexing_threshold
    return threshold


def _stored(metadata: Message) -> dict[str, object]:
    found = read_value(metadata[INDEXING_KEY]) if INDEXING_KEY in metadata else None
    return found if isinstance(found, dict) else {}


def _note(metadata: Message, state: Indexing, threshold_kb: int | None) -> None:
    fields = metadata[INDEXING_KEY].struct_value.fields
    fields["state"].string_value = state.value
    if threshold_kb is not None:
        fields["threshold_kb"].integer_value = threshold_kb
