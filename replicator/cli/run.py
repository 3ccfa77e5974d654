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
@click.option(
    "--wipe-target",
    "wipe",
    metavar="NAME",
    multiple=True,
    help="Empty this target collection before the copy. Repeat for several.",
)
def run(until: str | None, wipe: tuple[str, ...]) -> None:
    """Run the daemon: copy, replay, follow, and wait for a cutover.

    The log goes to standard output. The first SIGTERM or SIGINT finishes what is in flight and
    ends with 0; a second one ends at once, with 143 or 130.
    """
    from replicator.daemon.process import run_daemon
    from replicator.daemon.until import Goal
    from replicator.errors import Refused
    from replicator.wiring import build

    settings = options.settings()
    targets = [collection.target for collection in settings.collections]
    for name in wipe:
        if name not in targets:
            raise Refused(
                "config-invalid",
                f"--wipe-target {name}: the target collections are {', '.join(targets)}",
            )
    goal = None if until is None else Goal(until)
    run_daemon(settings, lambda told: build(told, wipe=wipe), goal)
