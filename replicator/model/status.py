"""What `GET /v1/status` says. `null` means unknown or not applicable; a number is never a
guess.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from replicator.model.fact import Fact
from replicator.model.finding import Blocker
from replicator.model.phase import Direction, Phase


class PartitionHealth(Enum):
    """Burrow's words: STALL: reads nothing new though there is more; STOP: nobody reads;
    REWIND: went back.
    """

    OK = "OK"
    WARN = "WARN"
    STALL = "STALL"
    STOP = "STOP"
    REWIND = "REWIND"


class BackfillStatus(msgspec.Struct, kw_only=True):
    estimated: int | None = None
    copied: int = 0
    percent: float | None = None
    rate_per_s: float | None = None
    eta_s: float | None = None


class MemoryStatus(msgspec.Struct, kw_only=True):
    budget_bytes: int
    """What bulk work may hold at once: `memory.budget`."""
    page_bytes: int
    """What follows from it for one page of one reader."""


class StreamStatus(msgspec.Struct, kw_only=True):
    applied: int = 0
    in_flight: int = 0
    in_flight_bytes: int = 0
    in_flight_limit: int = 0
    """Writes allowed at once just now."""
    buffer_bytes: int = 0
    """Of events that are not durable."""
    coalesced: int = 0
    retries: int = 0
    dead_letters: int = 0
    throttled: str | None = None
    """Why writes wait just now, if they do."""
    discarded: int = 0
    """Events older than the newest version applied to their key."""
    ignored: int = 0
    """Events of collections that this migration does not list."""
    absent: int = 0
    """Patches of keys that do not exist."""
    unknown_fields: dict[str, int] = {}
    """Events by the names in them that the event contract does not know."""
    misplaced: int = 0
    """Keys found in another partition than the partitioner says."""


class LagStatus(msgspec.Struct, kw_only=True):
    records: int | None = None
    seconds: float | None = None
    unknown_partitions: int = 0


class PartitionStatus(msgspec.Struct, kw_only=True):
    partition: str
    end: int | None
    position: int | None
    """The next record to read."""
    applied: int | None
    """The commit watermark: everything before it is durable."""
    committed: int | None
    """What is persisted in the state store."""
    status: PartitionHealth = PartitionHealth.OK


class VerifyStatus(msgspec.Struct, kw_only=True):
    generation: int = 0
    phase: str = "idle"
    """idle, comparing, settling, or done."""
    level: str | None = None
    compared: int = 0
    expected: int | None = None
    """Keys to compare, both ways; grows where the stores do. Null while it is not known."""
    missing: int = 0
    extra: int = 0
    different: int = 0
    hot: int = 0
    """Keys that changed at every look of the last verification: neither findings nor equal."""
    at: float | None = None
    """When the last full generation was completed, as seconds since the epoch."""
    configuration: int | None = None
    """Settings of the target collections that are not as planned, nor accepted; of the last
    verification."""
    recall: float | None = None
    """recall@k between both stores, of the last verification that searched: the least of all
    collections."""
    recall_upper: float | None = None
    """The upper end of its 95% interval, the least of all collections."""
    recall_below: list[str] = []
    """Of which collections that lies below `verify.recall_min`, in sentences."""


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is waited for: what, why, since when, and until when where that is
    known.
    """

    code: str
    message: str
    since: float
    until: float | None = None
    planned: bool = False
    """As the phase asks for: it makes nobody unready."""


class RetentionStatus(msgspec.Struct, kw_only=True):
    headroom_s: float | None = None


class FenceStatus(msgspec.Struct, kw_only=True):
    """A cutover or revert under way, or the last one."""

    operation: str
    """cutover or revert"""
    step: str
    """gate, fence, drain, stragglers, recheck, switch, open, done, failed"""
    since: float
    deadline_s: float | None = None
    """Seconds that the attempt may take in all."""
    stopped_s: float | None = None
    """How long writes were stopped, once they go on; while they are not, how long so far."""
    question: str | None = None
    """What a person is asked, if the step waits for one."""
    outcome: str | None = None
    """Null while under way; then `done`, or the error's code and message."""


class Status(msgspec.Struct, kw_only=True):
    name: str
    version: str
    phase: Phase
    direction: Direction
    paused: bool
    since: float
    reason: str = ""
    can_cutover: bool = False
    blockers: list[Blocker] = []
    application_may_write: str | None = None
    """source, target; null while fenced or unknown"""
    backfill: BackfillStatus
    stream: StreamStatus
    lag: LagStatus
    partitions: list[PartitionStatus] = []
    memory: MemoryStatus | None = None
    verify: VerifyStatus
    retention: RetentionStatus
    fence: FenceStatus | None = None
    waits: list[Wait] = []
    """Everything that is waited for just now, the longest first."""
    facts: list[Fact] = []
    """Latched until `replicator acknowledge CODE`."""
    warnings: list[Blocker] = []
    """What is to be known before a cutover, and keeps nothing from going on."""
    epoch: int = 0
    possible: list[str] = []
    """The commands that are possible now."""
    ready: bool = False
    not_ready: list[Blocker] = []
    """Why `/readyz` says no."""
    details: dict[str, Any] = {}
