"""`replicator dead-letters`: list, show, retry, discard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from replicator.cli import options, screen
from replicator.cli.group import LazyGroup
from replicator.model.command import DiscardLetters, RetryLetters

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from replicator.model.letter import DeadLetter
    from replicator.ports.control import Control
    from replicator.settings.settings import Settings

    T = TypeVar("T")

_HERE = "replicator.cli.letters"
_SHOWN_BYTES = 2000
_CLOSED = frozenset({"settled", "discarded"})
"""Outcomes of a retry after which nothing is open."""
_OF_EXPORT = click.option(
    "--export",
    "exported",
    metavar="DIRECTORY",
    type=click.Path(file_okay=False),
    help="Of the export to this directory, instead of the migration.",
)
_OF_IMPORT = click.option(
    "--import",
    "imported",
    metavar="DIRECTORY",
    type=click.Path(file_okay=False),
    help="Of the import from this directory, instead of the migration.",
)
_NUMBERS = click.argument("numbers", metavar="NUMBER...", nargs=-1, type=click.IntRange(min=1))


@click.group(
    cls=LazyGroup,
    commands_at={
        "list": f"{_HERE}:list_letters",
        "show": f"{_HERE}:show",
        "retry": f"{_HERE}:retry",
        "discard": f"{_HERE}:discard",
    },
)
@options.config
def letters() -> None:
    """Look at what could not be carried, and decide.

    While a dead letter is open the cutover gate is closed.
    """


@click.command("list")
@options.config
@options.as_json
@click.option(
    "--state",
    type=click.Choice(["open", "settled", "discarded", "all"]),
    default="open",
    show_default=True,
)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only above this number.")
@_OF_EXPORT
@_OF_IMPORT
def list_letters(
    *,
    as_json: bool,
    state: str,
    limit: int,
    after: int,
    exported: str | None,
    imported: str | None,
) -> None:
    """List dead letters by number."""
    from replicator.http import wire
    from replicator.model.letter import LetterState

    wanted = None if state == "all" else LetterState(state)
    settings = _settings(exported, imported)
    found = _ask(lambda control: control.letters(wanted, limit, after), settings)
    if as_json:
        screen.print_json([wire.document(letter) for letter in found])
        return
    head = ("number", "state", "at", "key", "where", "code", "path", "message")
    screen.console().print(screen.table(head, map(_row, found), right=[0]))
    if len(found) == limit:
        click.echo(f"there may be more: --after {found[-1].number}", err=True)


@click.command()
@options.config
@options.as_json
@_OF_EXPORT
@_OF_IMPORT
@click.argument("number", type=click.IntRange(min=1))
def show(as_json: bool, exported: str | None, imported: str | None, number: int) -> None:
    """Show one dead letter with its bytes."""
    from replicator.http import wire

    settings = _settings(exported, imported)
    record = _ask(lambda control: control.letter_bytes(number), settings)
    if as_json:
        screen.print_json(wire.document(record))
        return
    rows = [
        ("code", record.code),
        ("path", record.path or "-"),
        ("message", record.message),
        ("at", screen.moment(record.at)),
        ("where", _where(record.partition, record.offset)),
        ("key", _text(record.key)),
        *((f"header {name}", _text(value)) for name, value in record.headers),
        ("value", _text(record.value)),
    ]
    screen.console().print(screen.table(("", ""), rows))


@click.command()
@options.config
@options.as_json
@_NUMBERS
@click.option("--all", "every", is_flag=True, help="Every open one.")
def retry(as_json: bool, numbers: tuple[int, ...], every: bool) -> None:
    """Replay the keys of dead letters from the log, after what was wrong is mended.

    Exits with 1 when one of them stays open.
    """
    if bool(numbers) == every:
        raise click.UsageError("name the dead letters, or say --all")
    command = RetryLetters(None if every else numbers)
    outcomes = _ask(lambda control: control.do(command), options.settings())
    if as_json:
        screen.print_json({str(number): outcome for number, outcome in outcomes.items()})
    else:
        screen.console().print(screen.table(("number", "outcome"), outcomes.items(), right=[0]))
    if not {*outcomes.values()} <= _CLOSED:
        click.get_current_context().exit(1)


@click.command()
@options.config
@options.as_json
@_OF_EXPORT
@_OF_IMPORT
@_NUMBERS
def discard(
    as_json: bool, exported: str | None, imported: str | None, numbers: tuple[int, ...]
) -> None:
    """Give dead letters up: what they say will not be at the target."""
    if not numbers:
        raise click.UsageError("name the dead letters")
    settings = _settings(exported, imported)
    discarded = _ask(lambda control: control.do(DiscardLetters(numbers)), settings)
    if as_json:
        screen.print_json({"discarded": discarded})
    else:
        click.echo(f"discarded {discarded} of {len(numbers)}")


def _settings(exported: str | None, imported: str | None) -> Settings:
    """Whose dead letters: the migration's, or those of a copy to or from files."""
    from replicator.kinds import file_kinds
    from replicator.migration.copy.transfer import export_settings, import_settings

    told = options.settings()
    if exported is not None and imported is not None:
        raise click.UsageError("--export and --import exclude each other")
    files = next(iter(file_kinds().values()))  # the state lies beside files of any kind
    if exported is not None:
        return export_settings(
            told, side="source", collections=[], directory=exported, files=files
        )
    if imported is not None:
        return import_settings(
            told, side="target", collections=[], directory=imported, files=files
        )
    return told


def _ask(question: Callable[[Control], Awaitable[T]], settings: Settings) -> T:
    async def ask() -> T:
        from replicator.cli.connection import connection

        async with connection(settings) as control:
            return await question(control)

    return asyncio.run(ask())


def _row(letter: DeadLetter) -> tuple[str, ...]:
    key = letter.event_key
    return (
        str(letter.number),
        letter.state.value,
        screen.moment(letter.at),
        "-" if key is None else key.shown,
        _where(letter.partition, letter.offset),
        letter.code,
        letter.path or "-",
        letter.message,
    )


def _where(partition: str | None, offset: int | None) -> str:
    return "backfill" if partition is None else f"{partition} at {offset}"


def _text(data: bytes | None) -> str:
    """Bytes for a terminal: text where it is text, escapes elsewhere, and no control codes."""
    if data is None:
        return "null"
    text = data[:_SHOWN_BYTES].decode("utf-8", errors="backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    more = len(data) - _SHOWN_BYTES
    return f"{shown} … and {more} bytes more (--json has all)" if more > 0 else shown
