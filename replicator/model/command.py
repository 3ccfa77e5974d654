"""
The commands: what a person can ask of a migration, each a value that says what it answers.

`Control.do` takes every one of them. The command line and the HTTP build them, the rules of
`situation` say when each is possible, and the migration has a branch for each. A new one is
a struct here, a rule, a branch and a row of the routes; a test walks the union.
"""

from __future__ import annotations

from typing import ClassVar, Generic, Literal, TypeVar, get_args

import msgspec

from replicator.model.finding import Blocker
from replicator.model.phase import Direction
from replicator.model.report import Report
from replicator.model.search import Query

T = TypeVar("T")

Level = Literal["counts", "sample", "full"]
Store = Literal["source", "target"]


class Command(msgspec.Struct, Generic[T], frozen=True, forbid_unknown_fields=True):
    """What is asked; `T` is the answer. One without an answer is done when it returns."""

    name: ClassVar[str]
    """As it is given on the command line."""


class Pause(Command[None], frozen=True):
    """Stop copying and applying, without losing a place. Persisted. Idempotent."""

    name = "pause"


class Resume(Command[None], frozen=True):
    """Undo a pause; out of BLOCKED after a new check of what blocked. Idempotent."""

    name = "resume"


class Tune(Command[dict[str, str]], frozen=True):
    """
    Change rate, concurrency and batch limits while running: all changes or none. Not
    persisted. Answers with all tunables.
    """

    name = "tune"

    changes: dict[str, str] = {}


class Verify(Command[Report], frozen=True, kw_only=True):
    """Run a verification to its end."""

    name = "verify"

    level: Level = "full"
    queries: list[Query] | None = None
    """For the comparison of search quality; stored points when absent."""


class CancelVerification(Command[bool], frozen=True):
    """
    Stop the verification under way; what it had found so far stays found. False when none is.
    Whoever waits for its report gets Refused("cancelled").
    """

    name = "verify --cancel"


class Repair(Command[int], frozen=True):
    """
    Copy anew the keys that a verification found, or every key of a source collection. Keys
    repaired.
    """

    name = "repair"

    collection: str | None = None


class RetryLetters(Command[dict[int, str]], frozen=True):
    """Replay the keys of open letters (None: of all) from the log; number → outcome."""

    name = "dead-letters retry"

    numbers: tuple[int, ...] | None = None


class DiscardLetters(Command[int], frozen=True):
    """
    Give these open letters up, on a person's word; how many were open. Nothing is discarded
    that is not named.
    """

    name = "dead-letters discard"

    numbers: tuple[int, ...]


class Cross(Command[list[Blocker]], frozen=True, kw_only=True):
    """
    Move the application to the other store, to its end. With `dry_run`, the gate's reasons;
    otherwise an empty list, or Refused("gate-closed") and the errors of a failed attempt.
    Progress is in `Status.fence` and the journal.
    """

    leaves: ClassVar[Direction]
    """The direction in which it begins."""

    dry_run: bool = False
    timeout_s: float | None = None
    waive_dead_letters: bool = False
    waive_recall: bool = False
    """Go on although the target's searches certainly fall short of `verify.recall_min`."""
    yes: bool = False
    """Answer every question of a manual fence or switch with yes."""


class Cutover(Cross, frozen=True, kw_only=True):
    """To the target."""

    name = "cutover"
    leaves = Direction.FORWARD


class Revert(Cross, frozen=True, kw_only=True):
    """Back to the source."""

    name = "revert"
    leaves = Direction.REVERSE


class Complete(Command[None], frozen=True):
    """End the reverse window."""

    name = "complete"


class Abort(Command[None], frozen=True):
    """Give up before the switch."""

    name = "abort"


class Own(Command[None], frozen=True):
    """A person's word on which store the application writes."""

    name = "own"

    store: Store

    @property
    def direction(self) -> Direction:
        """The direction that this is."""
        return Direction.FORWARD if self.store == "source" else Direction.REVERSE


class Acknowledge(Command[None], frozen=True):
    """
    A person's word that a latched fact (misplaced keys, an intruder, a log that was moved) is
    dealt with. It is cleared, and journalled with the note and the evidence. Raises
    Refused("not-found") when nothing is kept under the code.
    """

    name = "acknowledge"

    code: str
    note: str = ""


class Answer(Command[None], frozen=True):
    """A person's answer to the question in `Status.fence`."""

    name = "answer"

    yes: bool


AnyCommand = (
    Pause
    | Resume
    | Tune
    | Verify
    | CancelVerification
    | Repair
    | RetryLetters
    | DiscardLetters
    | Cutover
    | Revert
    | Complete
    | Abort
    | Own
    | Acknowledge
    | Answer
)

COMMANDS: tuple[type[AnyCommand], ...] = get_args(AnyCommand)
"""Every one, in the order in which the status lists them."""
