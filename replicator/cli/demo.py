"""`replicator demo`: the whole migration on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from replicator.cli import options
from replicator.extras import needed_for


@click.command()
@click.option("--points", type=click.IntRange(min=1), default=4000, show_default=True)
@click.option("--revert", is_flag=True, help="Go back to the source at the end.")
@click.option("--crash", is_flag=True, help="Kill the daemon at random moments.")
@click.option("--kafka", is_flag=True, help="A real Kafka broker instead of the change log.")
@click.option("--seed", type=int, help="Of what happens when; random when absent.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Again and again for so long, with another seed each time.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Leave everything there; a temporary one when absent.",
)
@options.as_json
def demo(
    *,
    points: int,
    revert: bool,
    crash: bool,
    kafka: bool,
    seed: int | None,
    minutes: float,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Migrate a live collection on this machine, and prove it.

    Two local stores, live writes, a real cutover; no service is needed.

    Exits with 1 when both stores do not hold what they must.
    """
    with needed_for("the demonstration", "all"):
        from replicator.demo.run import DemoOptions, run_demo

    told = DemoOptions(
        points=points,
        revert=revert,
        crash=crash,
        kafka=kafka,
        seed=seed,
        minutes=minutes,
        directory=directory,
        as_json=as_json,
    )
    click.get_current_context().exit(run_demo(told))
