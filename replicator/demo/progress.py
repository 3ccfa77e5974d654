"""Show how the demonstration goes: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from replicator.model.status import Status

_LINE_INTERVAL_S = 2.0
_WIDTH = 60
"""Wide enough for every value, so that the table does not twitch."""


class Progress:
    """Use as a context manager; `say` tells of a step, `show` of figures that change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, auto_refresh=False)
        self._started = time.monotonic()
        self._line_at = 0.0

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """One finished step."""
        self._console.print(f"{self._elapsed()} {text}", highlight=False, soft_wrap=True)

    def show(self, status: Status) -> None:
        """The daemon's status as it is now."""
        if self._console.is_terminal:
            self._live.update(_table(status), refresh=True)
        elif time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + _LINE_INTERVAL_S
            figures = ", ".join(f"{name} {value}" for name, value in _figures(status))
            self.say(f"  {figures}")

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._started:6.1f} s"


def _table(status: Status) -> Table:
    table = Table(show_header=False, min_width=_WIDTH)
    for name, value in _figures(status):
        table.add_row(name, value)
    bar = ProgressBar(total=100, completed=status.backfill.percent or 0, width=_WIDTH // 2)
    table.add_row("copy", bar)
    return table


def _figures(status: Status) -> list[tuple[str, str]]:
    estimated = status.backfill.estimated
    records = status.lag.records
    return [
        ("phase", f"{status.phase.value} {status.direction.value}"),
        ("copied", f"{status.backfill.copied}/{'?' if estimated is None else estimated}"),
        ("applied", str(status.stream.applied)),
        ("lag", "unknown" if records is None else str(records)),
        ("application writes", status.application_may_write or "nowhere"),
    ]
