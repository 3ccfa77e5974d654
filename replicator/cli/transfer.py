"""`replicator export` and `replicator import`: a store to files and back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from replicator.cli import options, screen
from replicator.cli.carrying import begin_again, carry
from replicator.errors import Refused, ReplicatorError
from replicator.kinds import file_kinds

if TYPE_CHECKING:
    from replicator.settings.settings import Settings

_form = click.option(
    "--format",
    "form",
    type=click.Choice(list(file_kinds())),
    default=next(iter(file_kinds())),
    show_default=True,
    help="The kind of the files.",
)
_collections = click.option(
    "--collection", "collections", metavar="NAME", multiple=True, help="Only these; else all."
)


@click.command()
@options.config
@options.as_json
@options.wipe_target
@_collections
@_form
@click.option(
    "--from",
    "side",
    type=click.Choice(["source", "target"]),
    default="source",
    show_default=True,
    help="Which store to read.",
)
@click.argument("directory", type=click.Path(file_okay=False), required=False)
def export(
    *,
    as_json: bool,
    wipe: tuple[str, ...],
    collections: tuple[str, ...],
    form: str,
    side: str,
    directory: str | None,
) -> None:
    """Copy collections as they are into DIRECTORY.

    DIRECTORY is NAME-export when absent. Nobody may write the store
    meanwhile. What is interrupted, or met a writer, goes on when it is run again.
    """
    from replicator.migration.copy.transfer import (
        default_directory,
        export_settings,
        leave_manifest,
    )
    from replicator.wiring import name_collections

    told = options.settings()
    place = directory or default_directory(told)
    told = asyncio.run(name_collections(told))
    settings = export_settings(
        told,
        side=side,
        collections=list(collections),
        directory=place,
        files=file_kinds()[form],
    )
    points = _carry("export", settings, wipe, as_json)
    if points is not None:
        leave_manifest(settings, place, side, points)


@click.command("import")
@options.config
@options.as_json
@options.wipe_target
@_collections
@_form
@click.option(
    "--to",
    "side",
    type=click.Choice(["source", "target"]),
    default="target",
    show_default=True,
    help="Which store to write.",
)
@click.argument("directory", type=click.Path(file_okay=False), required=False)
def import_(
    *,
    as_json: bool,
    wipe: tuple[str, ...],
    collections: tuple[str, ...],
    form: str,
    side: str,
    directory: str | None,
) -> None:
    """Copy the files of DIRECTORY into collections.

    DIRECTORY is NAME-export when absent. What `export` left there finds its collections by
    itself, whatever they are called at this store. What is interrupted goes on when it is run
    again; so do rows that could not be carried, once they are mended.
    """
    from replicator.migration.copy.transfer import default_directory, import_settings
    from replicator.wiring import name_collections

    told = options.settings()
    place = directory or default_directory(told)
    if not Path(place).is_dir():
        raise Refused("not-found", f"there is no directory {place}")
    # What lies there is all that can travel, whatever the source has by now.
    told = asyncio.run(name_collections(told, file_kinds()[form].settings(place)))
    settings = import_settings(
        told,
        side=side,
        collections=list(collections),
        directory=place,
        files=file_kinds()[form],
    )
    _carry("import", settings, wipe, as_json)


def _carry(
    label: str, settings: Settings, wipe: tuple[str, ...], as_json: bool
) -> dict[str, int] | None:
    """Run it; the points of each collection once all are there."""
    from replicator.daemon import logs

    logs.quiet()
    wiped = options.wiped(settings, wipe)
    asyncio.run(begin_again(label, settings, wiping=bool(wiped)))
    try:
        carried = carry(label, settings, wipe=wiped)
    except ReplicatorError as error:
        if error.code == "rows-left":
            place = Path(settings.state.path).parent
            click.echo(f"see: replicator dead-letters list --{label} {place}", err=True)
        raise
    if as_json:
        screen.print_json({"done": carried.done, "copied": carried.copied})
    elif carried.done:
        click.echo(f"{label} done: {carried.copied:,} points, compared one by one")
    else:
        click.echo(f"{label} stopped after {carried.copied:,} points; run it again")
    if not carried.done:
        return None
    counts = {} if carried.report is None else carried.report.counts
    return {name: pair[1] or 0 for name, pair in counts.items()}
