"""
When each command is possible: one table, which every way in reads.

Command, phase, direction, pause, fence and running operation say whether it is possible, or
why not. Pure: the daemon, the offline commands and the status ask the same function. What a
command needs beyond that (a gate, a store that answers) it finds out itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from replicator.model.command import (
    COMMANDS,
    Abort,
    Acknowledge,
    Answer,
    AnyCommand,
    CancelVerification,
    Complete,
    Cutover,
    DiscardLetters,
    Own,
    Pause,
    Repair,
    Resume,
    RetryLetters,
    Revert,
    Tune,
    Verify,
)
from replicator.model.fact import ACKNOWLEDGED
from replicator.model.phase import ABORTABLE, PAUSABLE, STOPPED, Direction, Phase
from replicator.model.record import MigrationRecord

CROSSINGS = frozenset({"cutover", "revert"})
"""Operations that move the application."""
HOLDING = frozenset({"repair", "retry"})
"""Operations that hold keys; whatever stops the stream ends them first."""
ACKNOWLEDGED_IN_BLOCKED = frozenset({"log-replaced", "mark-newer"})
"""Why a migration can be BLOCKED and a person may say that it is meant."""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What decides on a command."""

    phase: Phase
    direction: Direction
    paused: bool = False
    fence_closed: bool = False
    operation: str | None = None
    """Under way: verify, repair, retry, cutover or revert."""
    asked: bool = False
    """A question waits for its answer."""
    facts: bool = False
    """Something is latched that a person can clear."""
    reason_code: str = ""
    """Why it is BLOCKED."""
    feed: bool = True
    letters: bool = True
    """Some dead letter is open."""
    running: bool = True
    """A daemon is at work; without one only the state is at hand."""

    @property
    def rests(self) -> bool:
        """Whether there is something to resume."""
        return self.paused or self.phase is Phase.BLOCKED


def situation(
    record: MigrationRecord,
    *,
    operation: str | None = None,
    asked: bool = False,
    feed: bool = True,
    letters: bool = True,
    running: bool = True,
) -> Situation:
    """The situation that a record is in."""
    return Situation(
        phase=record.phase,
        direction=record.direction,
        paused=record.paused,
        fence_closed=record.fence_closed,
        operation=operation,
        asked=asked,
        facts=any(fact.code in ACKNOWLEDGED for fact in record.facts),
        reason_code=record.reason_code,
        feed=feed,
        letters=letters,
        running=running,
    )


def possible(at: Situation) -> list[str]:
    """The commands that are possible, by name."""
    return [command.name for command in COMMANDS if refusal(command, at) is None]


def refusal(command: type[AnyCommand], at: Situation) -> str | None:
    """Why a command is not possible now; None when it is."""
    return _RULES[command](at)


def _running(at: Situation) -> str | None:
    return None if at.running else "no daemon is at work; start it with `replicator run`"


def _crossing(at: Situation) -> str | None:
    if at.operation in CROSSINGS:
        return f"{at.operation} is under way; wait for it"
    return None


def _pause(at: Situation) -> str | None:
    if at.phase not in PAUSABLE:
        return f"{at.phase.value} cannot be paused"
    return _running(at) or _crossing(at)


def _resume(at: Situation) -> str | None:
    if not at.rests:
        return "nothing is paused or BLOCKED"
    return _running(at) or _crossing(at)


def _streams(at: Situation) -> str | None:
    if at.phase is not Phase.STREAMING:
        return f"this needs STREAMING; the phase is {at.phase.value}"
    return "this needs a stream, and it is paused: resume first" if at.paused else None


def _alone(at: Situation) -> str | None:
    return None if at.operation is None else f"{at.operation} is under way; wait for it"


def _upkeep(at: Situation) -> str | None:
    return _running(at) or _streams(at) or _alone(at)


def _repair(at: Situation) -> str | None:
    if at.direction is Direction.REVERSE:
        return "in the reverse window the images are in target terms; repair works forward"
    return _upkeep(at)


def _cross(leaves: Direction, at: Situation) -> str | None:
    if not at.feed:
        return "a plain copy has nothing to cut over"
    if at.direction is not leaves:
        place = "source" if at.direction is Direction.FORWARD else "target"
        return f"the application is on the {place} already"
    return _running(at) or _streams(at) or _alone(at) or _fence(at)


def _fence(at: Situation) -> str | None:
    if not at.fence_closed:
        return None
    return "the writer fence is not open yet; a daemon opens it, and may have to be answered"


def _complete(at: Situation) -> str | None:
    if at.direction is not Direction.REVERSE or at.phase not in (
        Phase.STREAMING,
        Phase.BLOCKED,
    ):
        return "only the reverse window can be completed: the application on the target"
    return _alone(at) or _fence(at)


def _abort(at: Situation) -> str | None:
    if at.phase not in ABORTABLE or at.direction is not Direction.FORWARD:
        return (
            f"{at.phase.value} ({at.direction.value}) cannot be aborted; after the switch "
            "there is revert"
        )
    return _crossing(at) or _fence(at)


def _own(at: Situation) -> str | None:
    if at.phase not in STOPPED:
        return f"nothing is HELD or BLOCKED: the phase is {at.phase.value}"
    return _running(at) or _crossing(at)


def _acknowledge(at: Situation) -> str | None:
    blocked = at.phase is Phase.BLOCKED and at.reason_code in ACKNOWLEDGED_IN_BLOCKED
    if at.facts:
        return _crossing(at)
    return _running(at) or _crossing(at) if blocked else "nothing is latched"


def _cancel(at: Situation) -> str | None:
    return None if at.operation == "verify" else "no verification is under way"


def _discard(at: Situation) -> str | None:
    return None if at.letters else "no dead letter is open"


def _answer(at: Situation) -> str | None:
    return None if at.asked else "nothing is asked just now"


_RULES: dict[type[AnyCommand], Callable[[Situation], str | None]] = {
    Pause: _pause,
    Resume: _resume,
    Tune: _running,
    Verify: _upkeep,
    CancelVerification: _cancel,
    Repair: _repair,
    RetryLetters: _upkeep,
    DiscardLetters: _discard,
    Cutover: partial(_cross, Cutover.leaves),
    Revert: partial(_cross, Revert.leaves),
    Complete: _complete,
    Abort: _abort,
    Own: _own,
    Acknowledge: _acknowledge,
    Answer: _answer,
}
