"""
The gate: every reason why a cutover would not be safe now.

Pure: facts in, blockers out. A revert is asked less (lag, ownership, and what its own window
left in the dead letters), because going back must be possible when the new store has
disappointed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from replicator.model.fact import Fact
from replicator.model.finding import Blocker
from replicator.model.phase import Direction, Phase
from replicator.model.status import LagStatus
from replicator.settings.cutover import CutoverSettings

BLOCKERS: dict[str, str] = {
    "phase": "Wait until the migration streams; `replicator status` shows how far it is.",
    "paused": "Resume first: `replicator resume`.",
    "lag-unknown": "Bring the broker back; what is not known counts as infinite.",
    "lag": "Wait until the lag is below the limit; `replicator tune` raises concurrency.",
    "misplaced-keys": (
        "Make all producers use one partitioner, then `replicator acknowledge "
        "misplaced-keys` and verify in full."
    ),
    "group-foreign": (
        "Stop the other program that uses our consumer group, or give it its own; then "
        "`replicator acknowledge group-foreign`."
    ),
    "fence-lapsed": "Wait until the attempt under way is over.",
    "identity": "Log or collections are not what they were; see the message and the journal.",
    "dead-letters": "Resolve them with `replicator dead-letters`, or --waive-dead-letters.",
    "not-verified": "Run `replicator verify` (level full).",
    "verification-old": "Run `replicator verify` (level full) again.",
    "findings": "Run `replicator repair`, then `replicator verify`.",
    "configuration": (
        "Set the target collection as planned, or name the setting in `accept` of the "
        "collection; then `replicator verify`."
    ),
    "recall": (
        "Find out why the target's searches fall short, mend it and `replicator verify` again, "
        "or --waive-recall."
    ),
    "way-back-lossy": "Accept it by name with cutover.way_back_lossy, or change the transform.",
    "timeout-short": "Raise cutover.timeout, or pass a longer --timeout.",
    "busy": "Another cutover, revert or repair is under way; wait for it.",
    "no-feed": "Configure a feed: a plain copy has nothing to cut over.",
    "store-away": "Bring the store back; the stream waits for it.",
}


class GateFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate judges."""

    phase: Phase
    direction: Direction
    paused: bool
    lag: LagStatus
    latched: Sequence[Fact]
    open_letters: int
    waive_dead_letters: bool
    verified_at: float | None
    findings: int
    misconfigured: int
    """Settings of target collections that are neither as planned nor accepted."""
    below: Sequence[str]
    """Where the recall certainly lies below the least allowed, in sentences."""
    waive_recall: bool
    lossy: Sequence[str]
    shows_after_s: float
    """How long a patch may wait for the source's image; 0 when none can."""
    needed_s: float
    """Seconds that the steps need at least, the spans of their waits summed."""
    timeout_s: float
    now: float
    trouble: Blocker | None


def closed_by(facts: GateFacts, settings: CutoverSettings) -> list[Blocker]:
    """Every blocker; empty when the gate is open."""
    blockers = _ownership_and_lag(facts, settings)
    if facts.open_letters and not facts.waive_dead_letters:
        blockers.append(Blocker("dead-letters", f"{facts.open_letters} dead letters are open"))
    if facts.direction is Direction.FORWARD:
        blockers += _equality(facts, settings)
        if facts.lossy and not settings.way_back_lossy:
            blockers.append(Blocker("way-back-lossy", "; ".join(facts.lossy)))
    if facts.timeout_s < facts.needed_s:
        blockers.append(
            Blocker(
                "timeout-short",
                f"the steps wait for {facts.needed_s:.0f} s in all, the attempt may take "
                f"{facts.timeout_s:.0f} s",
            )
        )
    return blockers


def _ownership_and_lag(facts: GateFacts, settings: CutoverSettings) -> list[Blocker]:
    blockers = []
    if facts.phase is not Phase.STREAMING:
        blockers.append(Blocker("phase", f"the phase is {facts.phase.value}, not STREAMING"))
    if facts.paused:
        blockers.append(Blocker("paused", "the migration is paused"))
    if facts.trouble is not None:
        blockers.append(Blocker("store-away", facts.trouble.message))
    lag = facts.lag
    seconds_max = settings.lag_seconds_max + facts.shows_after_s
    if lag.records is None or lag.seconds is None or lag.unknown_partitions:
        blockers.append(
            Blocker(
                "lag-unknown",
                "the end of some partition, or the age of its events, is not known",
            )
        )
    elif lag.records > settings.lag_records_max or lag.seconds > seconds_max:
        blockers.append(
            Blocker(
                "lag",
                f"{lag.records} records and {lag.seconds:.1f} s behind; the limits are "
                f"{settings.lag_records_max} and {seconds_max:.0f} s",
            )
        )
    blockers += [
        Blocker(fact.code.value, f"{fact.message} (latched; acknowledge it)")
        for fact in facts.latched
    ]
    return blockers


def _equality(facts: GateFacts, settings: CutoverSettings) -> list[Blocker]:
    blockers = []
    if facts.verified_at is None:
        blockers.append(
            Blocker(
                "not-verified",
                "no full verification was completed since the copy, the last switch, or what "
                "voided it",
            )
        )
    elif facts.now - facts.verified_at > settings.verify_age_max:
        blockers.append(
            Blocker(
                "verification-old",
                f"the last full verification is {facts.now - facts.verified_at:.0f} s old; "
                f"the limit is {settings.verify_age_max:.0f} s",
            )
        )
    if facts.findings:
        blockers.append(Blocker("findings", f"{facts.findings} keys differ between the stores"))
    if facts.misconfigured:
        blockers.append(
            Blocker(
                "configuration",
                f"{facts.misconfigured} settings of the target are neither as planned nor "
                "accepted; `replicator verify` names them",
            )
        )
    if facts.below and not facts.waive_recall:
        blockers.append(Blocker("recall", "; ".join(facts.below)))
    return blockers
