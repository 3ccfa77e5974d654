"""`replicator run`: the daemon."""

from __future__ import annotations

import click

from replicator.cli import options


@click.command()
@options.config
@click.option(
    "--until",
    type=click.Choice(["backfilled", "caught-up"]),
    help="Stop when every row is copied, or when every change up to then is applied too. A job"
    " fails where a daemon would wait.",
)
@options.wipe_target
def run(until: str | None, wipe: tuple[str, ...]) -> None:
    """Run the daemon: copy, replay, follow the source.

    It then waits for a cutover, and follows the target for a revert.

    The log goes to standard output. The first SIGTERM or SIGINT finishes what is in flight and
    ends with 0; a second one ends at once, with 143 or 130.
    """
    from replicator.daemon.process import run_daemon
    from replicator.daemon.until import Goal
    from replicator.wiring import build

    settings = options.settings()
    allowed = options.wiped(settings, wipe)
    goal = None if until is None else Goal(until)
    run_daemon(settings, lambda told: build(told, wipe=allowed), goal)
