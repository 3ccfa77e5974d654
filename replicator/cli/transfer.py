"""`replicator export` and `replicator import`: a store to files and back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from replicator.cli import options, screen
from replicator.errors import Refused

if TYPE_CHECKING:
    from replicator.model.status import Status
    from replicator.settings.settings import Settings
    from replicator.wiring import Service

_collections = click.option(
    "--collection", "collections", metavar="NAME", multiple=True, help="Only these; else all."
)


@click.command()
@options.config
@options.as_json
@options.wipe_target
@_collections
@click.option(
    "--from",
    "side",
    type=click.Choice(["source", "target"]),
    default="source",
    show_default=True,
    help="Which store to read.",
)
@click.argument("directory", type=click.Path(file_okay=False))
def export(
    *,
    as_json: bool,
    wipe: tuple[str, ...],
    collections: tuple[str, ...],
    side: str,
    directory: str,
) -> None:
    """Copy collections as they are into DIRECTORY.

    One JSONL file each. Nobody may write the store meanwhile. What is interrupted goes on when
    it is run again.
    """
    from replicator.migration.transfer import export_settings

    settings = export_settings(
        options.settings(), side=side, collections=list(collections), directory=directory
    )
    _carry("export", settings, wipe, as_json)


@click.command("import")
@options.config
@options.as_json
@options.wipe_target
@_collections
@click.option(
    "--to",
    "side",
    type=click.Choice(["source", "target"]),
    default="target",
    show_default=True,
    help="Which store to write.",
)
@click.argument("directory", type=click.Path(file_okay=False, exists=True))
def import_(
    *,
    as_json: bool,
    wipe: tuple[str, ...],
    collections: tuple[str, ...],
    side: str,
    directory: str,
) -> None:
    """Copy the JSONL files of DIRECTORY into collections.

    What is interrupted goes on when it is run again.
    """
    from replicator.migration.transfer import import_settings

    settings = import_settings(
        options.settings(), side=side, collections=list(collections), directory=directory
    )
    _carry("import", settings, wipe, as_json)


def _carry(label: str, settings: Settings, wipe: tuple[str, ...], as_json: bool) -> None:
    from replicator.daemon import logs
    from replicator.daemon.process import run_loop
    from replicator.model.phase import Phase
    from replicator.wiring import load_standing

    logs.quiet()
    record = asyncio.run(load_standing(settings)).record
    if record is not None and record.phase is Phase.COMPLETE:
        raise Refused(
            "phase-refused",
            f"this {label} is complete already; remove {settings.state.path} to begin anew",
        )
    status = run_loop(_run(label, settings, options.wiped(settings, wipe)))
    done = status.phase is Phase.COMPLETE
    if as_json:
        screen.print_json({"done": done, "copied": status.backfill.copied})
    elif done:
        click.echo(f"{label} done: {status.backfill.copied:,} points, compared one by one")
    else:
        click.echo(f"{label} stopped after {status.backfill.copied:,} points; run it again")


async def _run(label: str, settings: Settings, wipe: tuple[str, ...]) -> Status:
    from replicator.cli.waiting import Figures, shown
    from replicator.daemon.lifetime import Lifetime
    from replicator.daemon.signals import StopSignals
    from replicator.daemon.until import Goal, Until
    from replicator.wiring import build

    def figures(status: Status) -> Figures:
        return Figures(status.backfill.copied, status.backfill.estimated)

    async def beat(service: Service) -> None:
        await shown(service, label=label, line_s=settings.log.interval, figures=figures)

    stop = StopSignals()
    stop.listen()
    async with build(settings, wipe=wipe) as assembly:
        lifetime = Lifetime(settings.stream, until=Until(Goal.CAUGHT_UP), beat=beat)
        await lifetime.run(assembly.service, stop)
        return await assembly.service.status()
