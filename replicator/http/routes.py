"""
The commands on their way over HTTP: a row for each says where it goes and what its answer is
called there.

The server makes its requests from the rows and the client speaks by them. The body is the
command as it stands, but for those whose values travel in another form.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from replicator.errors import Refused
from replicator.http import wire
from replicator.http.queries import VerifyBody, verify_body, verify_from
from replicator.model.command import (
    Abort,
    Acknowledge,
    Answer,
    CancelVerification,
    Command,
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
from replicator.model.finding import Blocker
from replicator.model.report import Report

T = TypeVar("T")
Asked = TypeVar("Asked")


class Body(msgspec.Struct, Generic[Asked], frozen=True):
    """A body that is not the command as it stands."""

    kind: Any
    """What the JSON is."""
    read: Callable[[Any], Asked]
    """The command. Raises Refused("bad-request")."""
    write: Callable[[Asked], Any]


class Told(msgspec.Struct, Generic[T], frozen=True):
    """How an answer travels."""

    write: Callable[[T], Any]
    read: Callable[[Any], T]
    """Raises msgspec.ValidationError."""


class Route(msgspec.Struct, Generic[T], frozen=True):
    """A command on its way."""

    path: str
    command: type[Command[T]]
    told: Told[T] | None = None
    """None: there is no answer but the status that it made."""
    body: Body[Any] | None = None

    def read(self, body: bytes) -> Command[T]:
        """An empty body is an empty map. Raises Refused("bad-request")."""
        kind = self.command if self.body is None else self.body.kind
        try:
            asked = msgspec.json.decode(body or b"{}", type=kind)
        except msgspec.DecodeError as exc:
            raise Refused("bad-request", f"the body: {exc}") from exc
        command: Command[T] = asked if self.body is None else self.body.read(asked)
        return command

    def write(self, command: Command[T]) -> bytes:
        """The body."""
        return msgspec.json.encode(command if self.body is None else self.body.write(command))


def route_of(command: Command[T]) -> Route[T]:
    """The row of a command."""
    return _ROUTE_OF[type(command)]


def _named(
    name: str, kind: type[T], write: Callable[[T], Any] = lambda value: value
) -> Told[T]:
    return Told(
        lambda value: {name: write(value)},
        lambda told: msgspec.convert(told[name], kind, str_keys=True),
    )


def _blockers(found: list[Blocker]) -> list[dict[str, str]]:
    return [wire.blocker(each) for each in found]


_ANY_NUMBER = Body(
    dict[str, str | int | float],
    lambda changes: Tune({name: str(value) for name, value in changes.items()}),
    lambda command: command.changes,
)
_QUERIES = Body(VerifyBody, verify_from, verify_body)
_REPORT = Told(wire.document, partial(wire.struct, kind=Report))

_ROUTES = (
    Route("/v1/pause", Pause),
    Route("/v1/resume", Resume),
    Route("/v1/tune", Tune, _named("tunables", dict[str, str]), _ANY_NUMBER),
    Route("/v1/verify", Verify, _REPORT, _QUERIES),
    Route("/v1/verify/cancel", CancelVerification, _named("cancelled", bool)),
    Route("/v1/repair", Repair, _named("repaired", int)),
    Route("/v1/cutover", Cutover, _named("blockers", list[Blocker], _blockers)),
    Route("/v1/revert", Revert, _named("blockers", list[Blocker], _blockers)),
    Route("/v1/complete", Complete),
    Route("/v1/abort", Abort),
    Route("/v1/own", Own),
    Route("/v1/answer", Answer),
    Route("/v1/acknowledge", Acknowledge),
    Route("/v1/dead-letters/retry", RetryLetters, _named("outcomes", dict[int, str])),
    Route("/v1/dead-letters/discard", DiscardLetters, _named("discarded", int)),
)

ROUTES: tuple[Route[Any], ...] = _ROUTES
"""Every one; `_ROUTES` is typed row by row, so that an answer cannot be another command's."""
_ROUTE_OF: dict[type[Command[Any]], Route[Any]] = {route.command: route for route in ROUTES}
