"""The status: what the engine knows, as people and programs read it. Asks nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.model.finding import Blocker
from replicator.model.phase import STREAMS, Direction, Phase
from replicator.model.status import (
    FenceStatus,
    MemoryStatus,
    RetentionStatus,
    Status,
    StreamStatus,
    VerifyStatus,
)

if TYPE_CHECKING:
    from replicator.migration.process.engine import Engine


def view(
    engine: Engine, *, version: str, verification: VerifyStatus, fence: FenceStatus | None
) -> Status:
    """The status but for the gate, which needs the state store."""
    record, stream, counters = engine.journal.record, engine.stream, engine.counters
    writer = engine.writers[record.direction]
    lag = engine.lag()
    status = Status(
        name=record.name,
        version=version,
        phase=record.phase,
        direction=record.direction,
        paused=record.paused,
        since=record.since,
        reason=record.reason,
        application_may_write=_owner(engine),
        backfill=engine.pace.status(),
        stream=StreamStatus(
            applied=counters.applied,
            in_flight=stream.in_flight if stream is not None else 0,
            in_flight_bytes=stream.in_flight_bytes if stream is not None else 0,
            in_flight_limit=writer.limit.now,
            buffer_bytes=stream.buffered_bytes if stream is not None else 0,
            coalesced=counters.coalesced,
            retries=sum(w.retries for w in engine.writers.values()),
            dead_letters=engine.letters.open,
            throttled=writer.trouble.message if writer.trouble is not None else None,
            discarded=counters.discarded,
            ignored=counters.ignored,
            absent=counters.absent,
            misplaced=counters.misplaced,
            unknown_fields=dict(counters.unknown.counts),
        ),
        lag=lag,
        memory=_memory(engine),
        verify=verification,
        retention=RetentionStatus(),
        fence=fence,
        not_ready=not_ready(engine),
        waits=engine.waits.all,
        facts=list(record.facts),
        epoch=record.epoch,
    )
    if engine.observer is not None:
        positions = (
            stream.positions if stream is not None and stream.lanes else engine.persisted
        )
        status.partitions = engine.observer.partitions(
            positions if stream is not None else {},
            lambda p: (
                stream.lanes[p].watermark.tracked_to
                if stream is not None and p in stream.lanes
                else None
            ),
            engine.committed,
            reads=record.phase in STREAMS and not record.paused,
            troubled=engine.trouble is not None,
        )
        status.retention = engine.observer.retention(lag)
    status.ready = not status.not_ready
    return status


def _memory(engine: Engine) -> MemoryStatus:
    settings = engine.parts.settings
    return MemoryStatus(
        budget_bytes=int(settings.memory.budget),
        page_bytes=settings.memory.page_bytes(settings.backfill.readers),
    )


def _owner(engine: Engine) -> str | None:
    """Which store the application may write; None while fenced or unknown."""
    record = engine.journal.record
    if record.fence_closed or record.phase in (Phase.FENCING, Phase.SWITCHING, Phase.HELD):
        return None
    if record.phase is Phase.BLOCKED and record.reason_code == "mark-newer":
        return None  # somebody else knows more than this state
    return "source" if record.direction is Direction.FORWARD else "target"


def not_ready(engine: Engine) -> list[Blocker]:
    """Why the migration does not do what its phase asks for."""
    record = engine.journal.record
    reasons = []
    if record.phase is Phase.BLOCKED:
        reasons.append(Blocker(record.reason_code or "phase", record.reason))
    if record.phase is Phase.HELD:
        reasons.append(Blocker("ownership-unknown", record.reason))
    if record.phase in STREAMS and not record.paused:
        if engine.stream is None or not engine.stream.lanes:
            reasons.append(Blocker("phase", "the stream is starting"))
        if engine.observer is not None and engine.observer.trouble is not None:
            reasons.append(engine.observer.trouble)
    seen = {reason.code for reason in reasons}
    for wait in engine.waits.all:
        if not wait.planned and wait.code not in seen:
            seen.add(wait.code)
            reasons.append(Blocker(wait.code, wait.message))
    return reasons
