"""The persisted record of a migration, and its journal."""

from __future__ import annotations

from typing import Any

import msgspec

from replicator.model.phase import Direction, Phase
from replicator.model.position import Positions


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """The positions taken before the first source row was read. `partitions` is the topic's
    count then.
    """

    id: str
    positions: Positions
    partitions: int
    at: float


class MigrationRecord(msgspec.Struct, kw_only=True):
    """Everything a restart needs to know about where the migration stands."""

    name: str
    attempt: int = 1
    """Counts captures on this state: abort and a new run begin the next attempt."""
    phase: Phase = Phase.PLANNED
    direction: Direction = Direction.FORWARD
    paused: bool = False
    epoch: int = 0
    """Rises with every switch; an event with an older one passed the fence late."""
    since: float = 0.0
    reason: str = ""
    reason_code: str = ""
    capture: Capture | None = None
    fingerprint: str = ""
    """Of the settings that a running copy depends on."""
    replay_until: Positions = {}
    fence_vector: Positions = {}
    """The log ends seen with the fence closed, of the switch under way or the last one."""
    blocked_from: Phase | None = None
    """Where BLOCKED resumes to after a new check."""
    fence_closed: bool = False
    """A fence that only a person may open is closed, or may be."""


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One step, with its evidence. `phase` is the phase in force after it."""

    at: float
    phase: Phase
    direction: Direction
    step: str
    """`phase`, or the name of a step of a cutover, a repair, a command."""
    message: str
    evidence: dict[str, Any] = {}


class Chunk(msgspec.Struct, frozen=True):
    """A part of a collection to copy. `spec` is the connector's own text; persisted, never
    recomputed.
    """

    number: int
    collection: str
    spec: str


class ChunkState(msgspec.Struct, frozen=True):
    """How far a chunk is copied: everything up to `cursor` is durable at the target."""

    chunk: Chunk
    cursor: str | None = None
    rows: int = 0
    done: bool = False
