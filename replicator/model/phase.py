"""
The phases of a migration, and which may follow which.

PLANNED → BACKFILL → REPLAY → STREAMING(forward) ⇄ FENCING → SWITCHING → STREAMING(reverse) →
COMPLETE

Two phases stop everything until a person acts, and lead back to where they came from: BLOCKED,
where going on would lose data, and HELD, where nobody knows which store the application owns.

Cutover and revert are one operation: FENCING and SWITCHING mean the same in both directions,
and the direction says where the application was when it began. Phases are names, never numbers
to compare.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where the migration stands. Persisted before it takes effect."""

    PLANNED = "PLANNED"
    BACKFILL = "BACKFILL"
    REPLAY = "REPLAY"
    STREAMING = "STREAMING"
    FENCING = "FENCING"
    SWITCHING = "SWITCHING"
    HELD = "HELD"
    BLOCKED = "BLOCKED"
    COMPLETE = "COMPLETE"
    ABORTED = "ABORTED"


class Direction(Enum):
    """`forward`: the application is on the source; `reverse`: on the target."""

    FORWARD = "forward"
    REVERSE = "reverse"

    @property
    def other(self) -> Direction:
        """The opposite direction."""
        return Direction.REVERSE if self is Direction.FORWARD else Direction.FORWARD


TERMINAL = frozenset({Phase.COMPLETE, Phase.ABORTED})
PAUSABLE = frozenset({Phase.BACKFILL, Phase.REPLAY, Phase.STREAMING})
ABORTABLE = frozenset(
    {
        Phase.PLANNED,
        Phase.BACKFILL,
        Phase.REPLAY,
        Phase.STREAMING,
        Phase.BLOCKED,
        Phase.HELD,
    }
)
"""In STREAMING, BLOCKED and HELD only while the direction is forward: after the switch there is
revert. In HELD only where no switch is under way: its fence is closed."""
STREAMS = frozenset({Phase.REPLAY, Phase.STREAMING, Phase.FENCING})
"""Phases in which the data path applies events."""

WORKING = frozenset(
    {Phase.PLANNED, Phase.BACKFILL, Phase.REPLAY, Phase.STREAMING, Phase.FENCING}
)
"""Phases that BLOCKED and HELD can interrupt, FENCING by going back first."""
STOPPED = frozenset({Phase.BLOCKED, Phase.HELD})
"""A person has to act; the process stays up and says so."""

TRANSITIONS: frozenset[tuple[Phase, Phase]] = frozenset(
    {
        (Phase.PLANNED, Phase.BACKFILL),
        (Phase.BACKFILL, Phase.REPLAY),
        (Phase.BACKFILL, Phase.COMPLETE),  # feed.kind = "none": a plain copy ends here
        (Phase.REPLAY, Phase.STREAMING),
        (Phase.STREAMING, Phase.FENCING),
        (Phase.FENCING, Phase.STREAMING),  # anything before the switch is journalled goes back
        (Phase.FENCING, Phase.SWITCHING),
        (Phase.SWITCHING, Phase.STREAMING),
        (Phase.STREAMING, Phase.COMPLETE),
        (Phase.BLOCKED, Phase.COMPLETE),  # the reverse window is lost, and a person ends it
        *((phase, Phase.ABORTED) for phase in ABORTABLE),
        *((phase, Phase.BLOCKED) for phase in WORKING),
        *((phase, Phase.HELD) for phase in (*WORKING, Phase.SWITCHING)),
        *(
            (stopped, phase)
            for stopped in STOPPED
            for phase in (Phase.PLANNED, Phase.BACKFILL, Phase.REPLAY, Phase.STREAMING)
        ),
    }
)


def may_follow(current: Phase, following: Phase) -> bool:
    """Whether the table allows the step."""
    return (current, following) in TRANSITIONS
