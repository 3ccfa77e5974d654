"""
The table of commands, walked: every state that is not an end has a way out, and no command is
possible where it would overlap what may not be overlapped.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
import pytest

from replicator.model import command as commands
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
    Pause,
    Repair,
    RetryLetters,
    Revert,
    Tune,
    Verify,
)
from replicator.model.fact import Fact, FactCode
from replicator.model.phase import PAUSABLE, STOPPED, TERMINAL, Direction, Phase
from replicator.model.record import MigrationRecord
from replicator.model.situation import (
    ACKNOWLEDGED_IN_BLOCKED,
    CROSSINGS,
    Situation,
    possible,
    refusal,
    situation,
)

OPERATIONS = [None, "verify", "repair", "retry", "cutover", "revert"]
FENCED = frozenset({Phase.FENCING, Phase.SWITCHING, Phase.HELD})
"""Phases in which nobody opens the fence."""
BESIDE = frozenset({Tune, CancelVerification, DiscardLetters, Answer})
CHANGING = [command for command in COMMANDS if command not in BESIDE]
"""Commands that must not go beside a cutover or revert."""


def situations() -> Iterator[Situation]:
    """Every one, those too that nobody has ever seen."""
    both = (False, True)
    for (
        phase,
        direction,
        paused,
        fence,
        operation,
        facts,
        letters,
        running,
    ) in itertools.product(Phase, Direction, both, both, OPERATIONS, both, both, both):
        for reason in ("", *ACKNOWLEDGED_IN_BLOCKED) if phase is Phase.BLOCKED else ("",):
            yield Situation(
                phase=phase,
                direction=direction,
                paused=paused,
                fence_closed=fence,
                operation=operation if running else None,
                asked=fence and running,
                facts=facts,
                reason_code=reason,
                letters=letters,
                running=running,
            )


def moves(at: Situation) -> Iterator[Situation]:
    """
    Where a situation may lead. What blocked it is never mended, and no switch goes well: a way
    out must not rest on luck.
    """
    change = msgspec.structs.replace
    if not at.running:
        yield change(at, running=True)
    elif at.operation is not None:
        yield change(at, operation=None)
    if at.fence_closed and at.running and at.phase not in FENCED:
        yield change(at, fence_closed=False, asked=False)
    if at.running and not at.paused:
        following = {
            Phase.PLANNED: Phase.BACKFILL,
            Phase.BACKFILL: Phase.REPLAY,
            Phase.REPLAY: Phase.STREAMING,
            Phase.FENCING: Phase.STREAMING,
            Phase.SWITCHING: Phase.HELD,
        }
        if at.phase in following:
            fenced = at.phase in FENCED
            yield change(at, phase=following[at.phase], fence_closed=fenced)
    for kind in COMMANDS:
        if refusal(kind, at) is not None:
            continue
        match kind:
            case commands.Pause | commands.Resume if at.phase is not Phase.BLOCKED:
                yield change(at, paused=kind is commands.Pause)
            case commands.Complete:
                yield change(at, phase=Phase.COMPLETE)
            case commands.Abort:
                yield change(at, phase=Phase.ABORTED)
            case commands.Own:
                for direction in Direction:
                    phase = Phase.STREAMING if at.phase is Phase.HELD else at.phase
                    yield change(at, phase=phase, direction=direction)


def is_kept(at: Situation) -> bool:
    """Whether a migration can be so: nothing is paused that cannot be, but for what blocks."""
    return not at.paused or at.phase in PAUSABLE | STOPPED | TERMINAL


def test_every_state_that_is_not_an_end_has_a_way_out() -> None:
    for begin in situations():
        seen, left = {str(begin)}, [begin]
        while left and not any(at.phase in TERMINAL for at in left):
            following = [after for at in left for after in moves(at)]
            left = [at for at in following if str(at) not in seen]
            seen.update(map(str, left))
        assert left or not is_kept(begin), f"no way out of {begin}"


def test_what_is_over_is_over() -> None:
    for at in situations():
        if at.phase in TERMINAL and not at.paused and at.operation is None:
            left = {"dead-letters discard", "tune", "acknowledge", "answer"}
            assert set(possible(at)) <= left, at


@pytest.mark.parametrize("command", CHANGING)
def test_nothing_that_changes_the_course_goes_beside_a_cutover(
    command: type[AnyCommand],
) -> None:
    for at in situations():
        if at.operation in CROSSINGS:
            assert refusal(command, at) is not None, at


def test_nothing_is_ended_while_the_application_may_not_write() -> None:
    """Nobody would open the fence any more."""
    for at in situations():
        if at.fence_closed:
            for command in (Complete, Abort, Cutover, Revert):
                assert refusal(command, at) is not None, at


def test_who_was_switched_is_not_given_up_and_who_was_not_is_not_completed() -> None:
    for at in situations():
        if at.direction is Direction.REVERSE:
            assert refusal(Abort, at) is not None
            assert refusal(Cutover, at) is not None
            assert refusal(Repair, at) is not None
        else:
            assert refusal(Complete, at) is not None
            assert refusal(Revert, at) is not None


def test_what_works_beside_a_stream_needs_one() -> None:
    beside = (Verify, Repair, RetryLetters, Cutover, Revert)
    for at in situations():
        if at.phase is not Phase.STREAMING or at.paused:
            for command in beside:
                assert refusal(command, at) is not None, at


def test_nothing_is_paused_that_does_not_run() -> None:
    for at in situations():
        if at.phase not in PAUSABLE:
            assert refusal(Pause, at) is not None, at


def test_without_a_daemon_only_what_the_state_alone_can_do_is_possible() -> None:
    offline = {
        Abort,
        Complete,
        Acknowledge,
        DiscardLetters,
    }
    for at in situations():
        if not at.running:
            assert {command for command in COMMANDS if refusal(command, at) is None} <= offline


def test_why_log_or_mark_are_not_ours_is_not_acknowledged_without_looking_at_them() -> None:
    for at in situations():
        if at.reason_code and not at.facts:
            assert (refusal(Acknowledge, at) is None) == at.running or at.operation


def test_a_lapse_is_nothing_that_a_person_can_clear() -> None:
    def at(code: FactCode) -> Situation:
        fact = Fact(code=code, message="seen", at=1.0)
        return situation(MigrationRecord(name="it", phase=Phase.STREAMING, facts=(fact,)))

    assert refusal(Acknowledge, at(FactCode.LAPSE)) is not None
    assert refusal(Acknowledge, at(FactCode.MISPLACED)) is None
    assert refusal(Acknowledge, at(FactCode.INTRUDER)) is None


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_possible_somewhere_and_refused_somewhere(
    command: type[AnyCommand],
) -> None:
    answers = {refusal(command, at) is None for at in situations()}
    assert answers == {True, False}
    assert all(refusal(command, at) != "" for at in situations())
