"""
Waiting for long work that the daemon does: show how it goes, and leave it alone on ^C.

The work goes on without us, so an interrupted command says so instead of pretending that it was
stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import click
import msgspec

from replicator.cli import screen
from replicator.errors import ReplicatorError
from replicator.model.status import Status
from replicator.ports.control import Control

T = TypeVar("T")

_LOOK_S = 0.5


class Figures(msgspec.Struct, frozen=True):
    """How far the work is: `done` of `total`, if that is known, and a sentence."""

    done: int
    total: int | None
    sentence: str = ""

    @property
    def most(self) -> int | None:
        """The total, which was an estimate if more than that is done."""
        return None if self.total is None else max(self.total, self.done)


Show = Callable[[Figures], None]


async def watched(
    control: Control,
    work: Coroutine[Any, Any, T],
    *,
    label: str,
    line_s: float,
    figures: Callable[[Status], Figures],
) -> T:
    """
    The result of `work`. Meanwhile, on standard error, a bar with rate and time left on a
    terminal, and one line every `line_s` seconds elsewhere.
    """
    show = asyncio.create_task(
        shown(control, label=label, line_s=line_s, figures=figures), name="progress"
    )
    try:
        return await work
    except asyncio.CancelledError:
        click.echo(f"{label} goes on in the daemon; see: replicator status", err=True)
        raise
    finally:
        show.cancel()
        await asyncio.wait({show})


async def shown(
    control: Control, *, label: str, line_s: float, figures: Callable[[Status], Figures]
) -> None:
    """Show how work goes, until cancelled."""
    with _bar(label) if sys.stderr.isatty() else _lines(label, line_s) as show:
        while True:
            # An error here is the work's own too, and that one is told.
            with contextlib.suppress(ReplicatorError):
                show(figures(await control.status()))
            await asyncio.sleep(_LOOK_S)


@contextlib.contextmanager
def _bar(label: str) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=None)

        def show(now: Figures) -> None:
            description = f"{label} ({now.sentence})" if now.sentence else label
            progress.update(task, completed=now.done, total=now.most, description=description)

        yield show


def _rate() -> Any:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:,.0f}/s")

    return Rate()


@contextlib.contextmanager
def _lines(label: str, line_s: float) -> Iterator[Show]:
    now = asyncio.get_running_loop().time
    at, before = now() + line_s, 0

    def show(figures: Figures) -> None:
        nonlocal at, before
        if now() < at:
            return
        rate = (figures.done - before) / (now() - at + line_s)
        at, before = now() + line_s, figures.done
        click.echo(
            f"{label}: {figures.done:,} of {screen.count(figures.most)}, {rate:,.0f}/s"
            f"{'; ' + figures.sentence if figures.sentence else ''}",
            err=True,
        )

    yield show
