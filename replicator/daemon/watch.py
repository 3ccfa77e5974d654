"""
The log's eye on the status: each trouble is told once when it begins and once when it ends.

The heartbeat says every half minute where the migration stands; what happens between two beats,
and why nothing moves, stands here, with the code by which it is looked up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import msgspec
import structlog

from replicator.errors import Refused
from replicator.model.phase import Phase
from replicator.model.status import Status
from replicator.ports.control import Control

_LOOK_S = 0.5
"""A status comes from memory and costs nothing. What is shorter than this is no trouble."""

_ALARMS = frozenset({Phase.BLOCKED, Phase.HELD})

log = structlog.get_logger()


class Line(msgspec.Struct, frozen=True):
    """One line of the log."""

    level: str
    event: str
    fields: dict[str, object]


class Watch:
    """What was told so far. Pure: statuses in, lines out; `now` is of a clock that grows."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._letters: int | None = None

    def look(self, status: Status, now: float) -> Iterator[Line]:
        """What is new since the last look."""
        level = "error" if status.phase in _ALARMS else "warning"
        reasons = {reason.code: reason for reason in status.not_ready if reason.code != "phase"}
        for code, reason in reasons.items():
            if code not in self._since:
                self._since[code] = now
                yield Line(
                    level,
                    "trouble",
                    {"code": code, "reason": reason.message, "hint": reason.hint},
                )
        for code in [code for code in self._since if code not in reasons]:
            lasted_s = round(now - self._since.pop(code), 1)
            yield Line("info", "trouble over", {"code": code, "lasted_s": lasted_s})
        yield from self._of_letters(status.stream.dead_letters)

    def _of_letters(self, now_open: int) -> Iterator[Line]:
        before, self._letters = self._letters, now_open
        if now_open > (before or 0):
            new = now_open - (before or 0)
            yield Line("warning", "dead letters", {"open": now_open, "new": new})
        elif before and not now_open:
            yield Line("info", "dead letters over", {"open": 0})


async def watch(control: Control) -> None:
    """Log what a Watch tells, until cancelled."""
    eye, now = Watch(), asyncio.get_running_loop().time
    say: dict[str, Callable[..., object]] = {
        "info": log.info,
        "warning": log.warning,
        "error": log.error,
    }
    while True:
        try:
            status = await control.status()
        except Refused:
            pass  # it has none before it has read its state
        else:
            for line in eye.look(status, now()):
                say[line.level](line.event, **line.fields)
        await asyncio.sleep(_LOOK_S)
