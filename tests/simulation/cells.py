"""
Which commands can be given when: the cells that a whole run of the suite must fill.

A cell is command, phase, operation under way. Every command can be given in every situation,
if only to be refused; so what can be reached depends on the situation alone. The situations
that nobody demands are listed with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

from replicator.model import command
from replicator.model.phase import Phase
from tests.simulation.process import RESTART

COMMANDS = (*(each.name for each in command.COMMANDS), RESTART)
OPERATIONS = ("verify", "repair", "retry", "cutover", "revert")
SITUATIONS = tuple((phase.value, name) for phase in Phase for name in ("nothing", *OPERATIONS))

_STREAMS = "an operation begins in STREAMING only"
_ALONE = "it is alone: a crossing is refused while another operation is under way"
_ENDED = "whatever ends the migration ends the operation first, or waits for it"
_HOLDS = "what holds keys ends before its stream does: a moment, not demanded"
_CROSSED = "the crossing sees the other phase and ends: a moment, not demanded"
_FENCED = "FENCING is the crossing's own, and a restart leaves it before it takes a command"
_WAITS = "a verification that began before: a matter of luck, not demanded"

UNREACHABLE: dict[tuple[str, str], str] = {
    ("FENCING", "nothing"): _FENCED,
    **{
        (phase, name): _STREAMS
        for phase in ("PLANNED", "BACKFILL", "REPLAY")
        for name in OPERATIONS
    },
    **{
        (phase, name): _ALONE
        for phase in ("FENCING", "SWITCHING")
        for name in ("verify", "repair", "retry")
    },
    **{(phase, name): _ENDED for phase in ("COMPLETE", "ABORTED") for name in OPERATIONS},
    **{(phase, name): _HOLDS for phase in ("BLOCKED", "HELD") for name in ("repair", "retry")},
    **{
        (phase, name): _CROSSED
        for phase in ("BLOCKED", "HELD")
        for name in ("cutover", "revert")
    },
    **{(phase, "verify"): _WAITS for phase in ("BLOCKED", "HELD")},
}
"""(phase, operation) → why no command need be given there."""


_UNREAD = "no event is read before the copy is done, so no later epoch is met"
UNTAKEN: dict[tuple[str, str], str] = {
    ("PLANNED", "HELD"): _UNREAD,
    ("BACKFILL", "HELD"): _UNREAD,
    ("HELD", "PLANNED"): _UNREAD,
    ("HELD", "BACKFILL"): _UNREAD,
}
"""Transitions of the table that nobody demands, with the reason."""


def cell(command: str, phase: str, operation: str) -> str:
    """The name of a cell."""
    return f"{command} | {phase} | {operation}"


def demanded() -> Iterator[str]:
    """Every cell that can be reached."""
    for phase, operation in SITUATIONS:
        if (phase, operation) not in UNREACHABLE:
            yield from (cell(command, phase, operation) for command in COMMANDS)
