"""
A cutover or revert as the terminal shows it: each step as it is journalled, and the questions.

The daemon does the work. This only follows the journal, passes questions on to a person and the
answers back, and says how things stand when it is interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from typing import Any

import click

from replicator.cli import screen
from replicator.errors import Refused, ReplicatorError
from replicator.model.command import Answer
from replicator.model.finding import Blocker
from replicator.model.phase import Phase
from replicator.model.record import JournalEntry
from replicator.model.status import FenceStatus
from replicator.ports.control import Control

_LOOK_S = 0.3
_OPEN_LOOKS = 20
"""How long the end of a failed attempt is watched: longer than the daemon needs to open its
fence, or to ask a person for it again."""
_ENTRIES = 100
"""Journal entries looked at each time: a switch-over writes about twenty in all."""


class Attempt:
    """Follow one attempt, on standard error; results belong to standard output."""

    def __init__(self, control: Control, operation: str) -> None:
        self._control = control
        self._operation = operation
        self._last: JournalEntry | None = None
        self._fence: FenceStatus | None = None
        self._asked: asyncio.Task[None] | None = None
        self._question: str | None = None
        self._left = False
        """Nobody is at the terminal any more."""

    async def run(self, work: Coroutine[Any, Any, list[Blocker]]) -> list[Blocker]:
        """The result of the attempt, or the error that ended it."""
        self._last = next(iter(await self._control.journal(1)), None)
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK_S))[0]:
                # An error here is the work's own too, and that one is told.
                with contextlib.suppress(ReplicatorError):
                    await self._look()
            if task.exception() is not None:
                with contextlib.suppress(ReplicatorError):
                    await self._see_the_fence_open()
        except asyncio.CancelledError:
            self._say_how_it_stands()
            task.cancel()  # only our wait for it: the daemon owns the work
            await asyncio.wait({task})
            raise
        finally:
            await self._stop_asking()
        with contextlib.suppress(ReplicatorError):
            await self._tell_journal()
        blockers = task.result()
        click.echo(f"{self._operation}: done{await self._stopped()}", err=True)
        return blockers

    async def _stopped(self) -> str:
        """How long the application could not write, where the daemon can still say it."""
        with contextlib.suppress(ReplicatorError):
            fence = (await self._control.status()).fence
            if fence is not None and fence.stopped_s is not None:
                return f"; writes were stopped for {fence.stopped_s:.2f} s"
        return ""

    async def _look(self) -> None:
        await self._tell_journal()
        answered = self._asked if self._asked is not None and self._asked.done() else None
        self._fence = (await self._control.status()).fence
        question = None if self._fence is None else self._fence.question
        if answered is not None:
            # What is asked after an answer is another question, even in the same words.
            answered.result()
            self._asked = None
        elif question != self._question:  # somebody else has answered
            await self._stop_asking()
        if question is not None and self._asked is None:
            self._asked = asyncio.create_task(self._ask(question), name="question")
        self._question = question

    async def _see_the_fence_open(self) -> None:
        """
        After an attempt that failed: the fence opens again, on a person's word where it rests
        on one. Leaves when it takes long, and when nobody is there to be asked.
        """
        looks = 0
        while looks < _OPEN_LOOKS and not self._left:
            await self._look()
            status = await self._control.status()
            if status.application_may_write is not None or status.phase is not Phase.STREAMING:
                return
            looks = 0 if self._asked is not None else looks + 1
            await asyncio.sleep(_LOOK_S)

    async def _tell_journal(self) -> None:
        entries = await self._control.journal(_ENTRIES)
        if self._last in entries:
            entries = entries[entries.index(self._last) + 1 :]
        for entry in entries:
            self._last = entry
            click.echo(f"{screen.moment(entry.at)}  {entry.step:<13} {entry.message}", err=True)

    async def _ask(self, question: str) -> None:
        """Ask until the answer is yes or no; the end of the input is a no."""
        while True:
            click.echo(f"{question} [yes/no] ", err=True, nl=False)
            line = await _line()
            word = line.strip().lower()
            if word in {"y", "yes"} or word in {"n", "no"} or not line:
                break
        self._left = not line
        # The attempt may have ended meanwhile; its own outcome is told.
        with contextlib.suppress(Refused):
            await self._control.do(Answer(word in {"y", "yes"}))

    async def _stop_asking(self) -> None:
        task, self._asked = self._asked, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})
            click.echo("", err=True)

    def _say_how_it_stands(self) -> None:
        fence = self._fence
        step = "its first step" if fence is None else f"step {fence.step}"
        left = None if fence is None else fence.deadline_s
        ends = "" if left is None else f", and is given up in {screen.span(left)}"
        click.echo(
            f"\nthe {self._operation} goes on in the daemon: it was at {step}{ends}."
            " See: replicator status --watch",
            err=True,
        )
        if fence is not None and fence.question:
            click.echo("its question stays open; what is not answered is given up", err=True)


async def _line() -> str:
    """A line of the terminal, without blocking the loop; empty at the end of the input."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline()
