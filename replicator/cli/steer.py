"""Short commands: pause, resume, tune, complete, abort, own, answer, acknowledge."""

from __future__ import annotations

import asyncio
from typing import get_args

import click

from replicator.cli import options, screen
from replicator.model.command import (
    Abort,
    Acknowledge,
    Answer,
    Command,
    Complete,
    Own,
    Pause,
    Resume,
    Store,
    Tune,
)


def _give(command: Command[None], as_json: bool, done: str) -> None:
    """Give a command and say what the status is then."""
    settings = options.settings()

    async def give() -> None:
        from replicator.cli.connection import connection
        from replicator.cli.picture import line
        from replicator.http import wire

        async with connection(settings) as control:
            await control.do(command)
            told = await control.status()
            if as_json:
                screen.print_json(wire.document(told))
            else:
                click.echo(f"{done}: {line(told)}")

    asyncio.run(give())


@click.command()
@options.config
@options.as_json
def pause(as_json: bool) -> None:
    """Stop copying and applying, without losing a place."""
    _give(Pause(), as_json, "paused")


@click.command()
@options.config
@options.as_json
def resume(as_json: bool) -> None:
    """Go on after a pause, or after BLOCKED once it is mended."""
    _give(Resume(), as_json, "resumed")


@click.command()
@options.config
@options.as_json
@options.yes
def complete(as_json: bool, yes: bool) -> None:
    """End the reverse window.

    The old store is no longer kept up to date, and there is no revert any more.
    """
    options.confirm("After this there is no revert. Go on?", yes=yes)
    _give(Complete(), as_json, "completed")


@click.command()
@options.config
@options.as_json
@options.yes
def abort(as_json: bool, yes: bool) -> None:
    """Give up. The application stays on the source."""
    options.confirm("The copy is given up. Go on?", yes=yes)
    _give(Abort(), as_json, "aborted")


@click.command()
@options.config
@options.as_json
@click.argument("store", type=click.Choice(get_args(Store)))
def own(as_json: bool, store: Store) -> None:
    """Say which store the application writes (HELD)."""
    _give(Own(store), as_json, f"the application is on the {store}")


@click.command()
@options.config
@options.as_json
@click.argument("word", type=click.Choice(["yes", "no"]))
def answer(as_json: bool, word: str) -> None:
    """Answer what a manual fence or switch asks.

    The question stands in `replicator status`. It may be answered from any terminal, whichever
    began the cutover.
    """
    _give(Answer(word == "yes"), as_json, f"answered {word}")


@click.command()
@options.config
@options.as_json
@click.argument("code")
@click.option("--note", default="", help="Why it is dealt with; the journal keeps it.")
def acknowledge(as_json: bool, code: str, note: str) -> None:
    """Clear a fact that keeps the gate closed.

    CODE is the blocker's, as `misplaced-keys`. Give your word only for what is mended: the fact
    is forgotten then, and the journal keeps who let it be.
    """
    _give(Acknowledge(code, note), as_json, f"acknowledged {code}")


@click.command()
@options.config
@options.as_json
@click.argument("changes", metavar="[KEY=VALUE]...", nargs=-1)
def tune(as_json: bool, changes: tuple[str, ...]) -> None:
    """Change rate and limits while running.

    Without a change it lists them. What is changed lasts until the daemon ends.
    """
    settings, command = options.settings(), Tune(dict(map(_pair, changes)))

    async def give() -> dict[str, str]:
        from replicator.cli.connection import connection

        async with connection(settings) as control:
            return await control.do(command)

    told = asyncio.run(give())
    if as_json:
        screen.print_json(told)
    else:
        screen.console().print(screen.table(("setting", "now"), told.items()))


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="KEY=VALUE")
    return key, value
