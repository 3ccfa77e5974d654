"""What commands print: tables for people, JSON for programs. No colour where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH_ELSEWHERE = 200
"""Columns where there is no terminal, so that `grep` finds a row in one line."""


def console() -> Console:
    """Standard output."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH_ELSEWHERE
    return Console(file=sys.stdout, width=width, highlight=False, markup=False)


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()
) -> Table:
    """A table without lines, and without a head of empty titles; `right` numbers the columns
    that are flush right.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", show_header=any(head))
    for number, title in enumerate(head):
        made.add_column(title, justify="right" if number in set(right) else "left")
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    return made


def print_json(value: Any) -> None:
    """A result as JSON, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def count(number: int | None) -> str:
    """`12,345`, or `unknown`."""
    return "unknown" if number is None else f"{number:,}"


def span(seconds: float | None) -> str:
    """`3.2 s`, `12 min`, `5.0 h`, or `unknown`."""
    if seconds is None:
        return "unknown"
    for unit, size, least in (("days", 86400, 172800), ("h", 3600, 5400), ("min", 60, 90)):
        if seconds >= least:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def moment(at: float) -> str:
    """Wall-clock time in the terminal's zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def print_json_line(value: Any) -> None:
    """A result as one line of JSON."""
    click.echo(msgspec.json.encode(value))
