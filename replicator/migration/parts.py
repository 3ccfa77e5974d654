"""What a migration works with; made by wiring, or by a test."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from replicator.clock import Clock
from replicator.metrics import Metrics
from replicator.ports.feed import ChangeFeed, DeadLetterLog
from replicator.ports.state import StateStore
from replicator.ports.store import Store
from replicator.settings.settings import Settings
from replicator.stream.embedding import Models


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The collaborators, by role."""

    settings: Settings
    fingerprint: str
    source: Store
    target: Store
    feed: ChangeFeed | None
    state: StateStore
    letter_log: DeadLetterLog
    metrics: Metrics
    clock: Clock
    models: Models | None = None
    """Of the vectors that are made anew; None where none is."""
    wipe: Sequence[str] = ()
    """Target collections that a person allowed to wipe."""
