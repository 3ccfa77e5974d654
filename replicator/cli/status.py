"""`replicator status`: one screen, or the same JSON as `GET /v1/status`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from replicator.cli import options, screen

if TYPE_CHECKING:
    from rich.console import Group

    from replicator.model.status import Status
    from replicator.settings.settings import Settings

_INTERVAL_S = 1.0


@click.command()
@options.config
@options.as_json
@click.option("-w", "--watch", is_flag=True, help="Again every second, until ^C.")
def status(as_json: bool, watch: bool) -> None:
    """Show where the migration stands and what to do next."""
    settings = options.settings()
    if not watch:
        told = asyncio.run(_status(settings))
        _print_json(told) if as_json else screen.console().print(_picture(told))
    elif as_json or not sys.stdout.isatty():
        asyncio.run(_repeat(settings, as_json))
    else:
        asyncio.run(_watch(settings))


async def _status(settings: Settings) -> Status:
    from replicator.cli.connection import connection

    async with connection(settings) as control:
        return await control.status()


def _print_json(told: Status) -> None:
    from replicator.http import wire

    screen.print_json(wire.document(told))


async def _repeat(settings: Settings, as_json: bool) -> None:
    """One line a second, for programs and files."""
    from replicator.cli.picture import line
    from replicator.http import wire

    while True:
        told = await _status(settings)
        if as_json:
            screen.print_json_line(wire.document(told))
        else:
            click.echo(line(told))
        await asyncio.sleep(_INTERVAL_S)


async def _watch(settings: Settings) -> None:
    """The screen, renewed in place; a daemon that restarts is waited for."""
    from rich.live import Live

    from replicator.errors import Retryable

    with Live(console=screen.console(), auto_refresh=False, screen=True) as live:
        while True:
            try:
                live.update(_picture(await _status(settings)), refresh=True)
            except Retryable as error:
                live.update(f"{error.message}\n{error.hint}", refresh=True)
            await asyncio.sleep(_INTERVAL_S)


def _picture(told: Status) -> Group:
    from replicator.cli.picture import picture

    return picture(told)
