"""
How a migration stands that has begun, against what the log and the settings are now.

`check` beside a migration under way answers what a restart or a `resume` would meet.
"""

from __future__ import annotations

import msgspec

from replicator.errors import ReplicatorError
from replicator.model.finding import CheckFinding, Severity
from replicator.model.phase import STREAMS, TERMINAL, Phase
from replicator.model.position import Positions
from replicator.model.record import MigrationRecord
from replicator.ports.feed import ChangeFeed
from replicator.ports.state import StateStore


class Standing(msgspec.Struct, frozen=True):
    """What the state says of a migration. Without a record nothing has begun."""

    record: MigrationRecord | None = None
    positions: Positions = {}
    is_copying: bool = False
    """Chunks are cut: rows may be at the target."""

    @property
    def capture_id(self) -> str | None:
        """The mark of the migration under way; none before its capture, and after its end: what
        an aborted one left at the target is nobody's.
        """
        record = self.record
        if record is None or record.capture is None or record.phase in TERMINAL:
            return None
        return record.capture.id

    @property
    def needs_target(self) -> bool:
        """Whether the target collection must be there, because rows are."""
        if self.capture_id is None:
            return False
        return self.is_copying or self.has_copied

    @property
    def has_copied(self) -> bool:
        """Whether every row is copied."""
        record = self.record
        return record is not None and record.phase in {
            *STREAMS,
            Phase.SWITCHING,
            Phase.HELD,
            Phase.COMPLETE,
        }


async def read_standing(state: StateStore) -> Standing:
    """What a state holds."""
    record = await state.load()
    if record is None:
        return Standing()
    return Standing(record, await state.positions(), bool(await state.chunks()))


async def standing_findings(
    standing: Standing, feed: ChangeFeed | None, fingerprint: str
) -> list[CheckFinding]:
    """What keeps a migration under way from going on with these settings and this log."""
    record = standing.record
    if record is None or record.phase in TERMINAL:
        return []
    findings = []
    if fingerprint and record.fingerprint and record.fingerprint != fingerprint:
        message = (
            "source, target, collections, transforms or feed are not those of the migration"
            " under way"
        )
        findings.append(CheckFinding(Severity.BLOCKS, "plan-changed", "state", message))
    if feed is None or record.capture is None:
        return findings
    try:
        bounds = await feed.bounds()
    except ReplicatorError:
        return findings  # the feed's own check says it
    if len(bounds) != record.capture.partitions:
        message = (
            f"the log has {len(bounds)} partitions, {record.capture.partitions} when it was"
            " captured"
        )
        return [*findings, CheckFinding(Severity.BLOCKS, "partitions-changed", "feed", message)]
    for partition, at in sorted(bounds.items()):
        position = standing.positions.get(partition, -1)
        if position < at.start:
            message = f"{partition} begins at {at.start}, after our position {position}"
            findings.append(CheckFinding(Severity.BLOCKS, "log-truncated", "feed", message))
    return findings
