"""`replicator cutover` and `replicator revert`: one switch-over, watched step by step."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from replicator.cli import options, screen
from replicator.errors import Refused
from replicator.model.command import Cross, Cutover, Revert

if TYPE_CHECKING:
    from replicator.model.finding import Blocker
    from replicator.settings.settings import Settings

_dry_run = click.option("--dry-run", is_flag=True, help="Only say what keeps the gate closed.")
_timeout = click.option(
    "--timeout",
    metavar="DURATION",
    help="For the whole attempt, as in 90s or 5m; over it the fence opens again.",
)
_waive = click.option(
    "--waive-dead-letters", is_flag=True, help="Go on although dead letters are open."
)
_waive_recall = click.option(
    "--waive-recall",
    is_flag=True,
    help="Go on although the target's searches fall short of verify.recall_min.",
)


@click.command()
@options.config
@options.as_json
@_dry_run
@_timeout
@_waive
@_waive_recall
@options.yes
def cutover(
    *,
    as_json: bool,
    dry_run: bool,
    timeout: str | None,
    waive_dead_letters: bool,
    waive_recall: bool,
    yes: bool,
) -> None:
    """Move the application to the target.

    Fence, drain, compare, switch, open: until the switch every failure goes back. A manual
    fence or switch asks on the terminal. Exits with 2 while the gate is closed.
    """
    command = Cutover(
        dry_run=dry_run,
        timeout_s=_seconds(timeout),
        waive_dead_letters=waive_dead_letters,
        waive_recall=waive_recall,
        yes=yes,
    )
    _cross(command, as_json)


@click.command()
@options.config
@options.as_json
@_dry_run
@_timeout
@_waive
@options.yes
def revert(
    as_json: bool, dry_run: bool, timeout: str | None, waive_dead_letters: bool, yes: bool
) -> None:
    """Move the application back, without losing a change."""
    command = Revert(
        dry_run=dry_run,
        timeout_s=_seconds(timeout),
        waive_dead_letters=waive_dead_letters,
        yes=yes,
    )
    _cross(command, as_json)


def _seconds(timeout: str | None) -> float | None:
    from replicator.settings.units import Duration

    try:
        return None if timeout is None else float(Duration.parse(timeout))
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--timeout") from exc


def _cross(command: Cross, as_json: bool) -> None:
    settings = options.settings()
    if not command.dry_run:
        _somebody_answers(settings, command)
    blockers = asyncio.run(_run(settings, command))
    if as_json:
        screen.print_json({"done": not command.dry_run, "blockers": blockers})
    elif command.dry_run:
        _show(command.name, blockers)
    if blockers:
        click.get_current_context().exit(2)


def _somebody_answers(settings: Settings, command: Cross) -> None:
    """A question that nobody can answer is better asked before the fence closes."""
    from replicator.settings.cutover import ManualSettings

    manual = [
        name
        for name, part in (
            ("fence", settings.cutover.fence),
            ("switch", settings.cutover.switch),
        )
        if isinstance(part, ManualSettings)
    ]
    if manual and not command.yes and not sys.stdin.isatty():
        raise Refused(
            "bad-request",
            f"cutover.{' and cutover.'.join(manual)}: manual, and there is no terminal to ask"
            " on; --yes answers for scripts",
        )


async def _run(settings: Settings, command: Cross) -> list[Blocker]:
    from replicator.cli.attempt import Attempt
    from replicator.cli.connection import connection

    async with connection(settings) as control:
        if command.dry_run:
            return await control.do(command)
        return await Attempt(control, command.name).run(control.do(command))


def _show(operation: str, blockers: list[Blocker]) -> None:
    if not blockers:
        click.echo(f"the gate is open; next: replicator {operation}")
        return
    rows = ((blocker.code, blocker.message, blocker.hint) for blocker in blockers)
    head = ("blocker", "what is in the way", "what to do")
    screen.console().print(screen.table(head, rows))
