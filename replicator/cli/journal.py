"""`replicator journal`: what happened, with its evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from replicator.cli import options, screen

if TYPE_CHECKING:
    from replicator.model.record import JournalEntry
    from replicator.settings.settings import Settings

_INTERVAL_S = 1.0
_FOLLOWED = 1000
"""Entries looked at each time when following: a second brings a few."""


@click.command()
@options.config
@options.as_json
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("-f", "--follow", is_flag=True, help="Go on, until ^C; with --json, a line each.")
def journal(as_json: bool, limit: int, follow: bool) -> None:
    """Show what happened, the newest last.

    Asks the daemon, and reads the state where none runs.
    """
    settings = options.settings()
    entries = asyncio.run(_entries(settings, limit))
    if as_json and not follow:
        from replicator.http import wire

        screen.print_json([wire.document(entry) for entry in entries])
        return
    _print(entries, as_json)
    if follow:
        asyncio.run(_follow(settings, entries, as_json))


async def _entries(settings: Settings, limit: int) -> list[JournalEntry]:
    from replicator.cli.connection import connection

    async with connection(settings) as control:
        return await control.journal(limit)


async def _follow(settings: Settings, seen: list[JournalEntry], as_json: bool) -> None:
    """What comes after what was seen; a daemon that restarts is waited for."""
    from replicator.errors import Retryable

    while True:
        await asyncio.sleep(_INTERVAL_S)
        try:
            entries = await _entries(settings, _FOLLOWED)
        except Retryable:
            continue
        _print(after(seen, entries), as_json)
        seen = entries or seen


def after(seen: Sequence[JournalEntry], entries: Sequence[JournalEntry]) -> list[JournalEntry]:
    """The entries that follow the last one seen; all of them where it is too long ago."""
    if seen and seen[-1] in entries:
        last = max(at for at, entry in enumerate(entries) if entry == seen[-1])
        return list(entries[last + 1 :])
    return list(entries)


def _print(entries: Sequence[JournalEntry], as_json: bool) -> None:
    from replicator.http import wire

    for entry in entries:
        if as_json:
            screen.print_json_line(wire.document(entry))
            continue
        evidence = msgspec.json.encode(entry.evidence).decode() if entry.evidence else ""
        click.echo(
            f"{screen.moment(entry.at)}  {entry.phase.value:<9} {entry.step:<13} "
            f"{entry.message}  {evidence}".rstrip()
        )
