"""`replicator demo`: set the stage, play the scenario, tell the outcome, clear up."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from pathlib import Path

import msgspec
from rich.console import Console

from replicator.demo.chaos import Chaos
from replicator.demo.config import Places, daemon_config
from replicator.demo.outcome import Outcome
from replicator.demo.processes import free_address
from replicator.demo.progress import Progress
from replicator.demo.replication import Replication
from replicator.demo.scenario import Scenario
from replicator.demo.stage import Stage
from replicator.errors import ReplicatorError
from replicator.http.client import HttpControl
from replicator.settings.units import Secret

_COPY_S = 4.0
"""The copy is slowed down to take about so long; else hardly a write would fall into it."""


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `replicator demo` can be asked for."""

    points: int = 4000
    revert: bool = False
    """Go back to the source at the end, and prove both stores equal once more."""
    crash: bool = False
    """Kill the daemon at random moments of every phase."""
    kafka: bool = False
    """A real Kafka broker in place of the SQLite change log."""
    seed: int | None = None
    """Of what the application does and when the daemon is killed; a random one when absent."""
    minutes: float = 0.0
    """Over and over, with another seed each time, for so long; 0 is once."""
    directory: Path | None = None
    """Where to work and to leave everything behind; a temporary directory when absent."""
    as_json: bool = False


def run_demo(options: DemoOptions) -> int:
    """
    Run the demonstration, print its outcome, and return the exit code: 0 when both stores hold
    what they must and no request failed, else 1.
    """
    seed = random.SystemRandom().randrange(1 << 16) if options.seed is None else options.seed
    console = Console(stderr=options.as_json)
    deadline = time.monotonic() + options.minutes * 60
    while True:
        outcome = _once(options, seed, console)
        if options.as_json:
            print(outcome.json())  # noqa: T201 - the promised output
        else:
            outcome.show(console)
        if not outcome.ok:
            return 1
        if time.monotonic() >= deadline:
            return 0
        seed += 1


def _once(options: DemoOptions, seed: int, console: Console) -> Outcome:
    directory = options.directory or Path(tempfile.mkdtemp(prefix="replicator-demo-"))
    if options.directory and options.minutes:
        directory = directory / str(seed)
    directory.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(seed=seed, feed="Kafka" if options.kafka else "change log")
    started = time.monotonic()
    keep = options.directory is not None
    try:
        with Progress(console) as progress:
            try:
                asyncio.run(_play(options, directory.absolute(), progress, outcome))
            except ReplicatorError as error:
                outcome.problems.append(error.message)
        outcome.seconds = round(time.monotonic() - started, 1)
        if not outcome.ok:
            keep = True
            console.print(f"logs, configuration and stores are in {directory}", soft_wrap=True)
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    return outcome


async def _play(
    options: DemoOptions, directory: Path, progress: Progress, outcome: Outcome
) -> None:
    seed = outcome.seed
    stage = Stage(directory, points=options.points, seed=seed, kafka=options.kafka)
    broker = ", a Kafka broker (its jars are fetched once)" if options.kafka else ""
    progress.say(f"starting two stores{broker} and the application")
    async with stage:
        progress.say(
            f"two stores and the application are up; {options.points} points at the source, "
            f"and it goes on writing (seed {seed})"
        )
        places = Places(
            directory=directory,
            source=stage.source,
            target=stage.target,
            application=stage.application.url,
            listen=free_address(),
            changelog=stage.changelog,
            bootstrap_servers=stage.bootstrap_servers,
            topic=stage.topic,
        )
        config = directory / "replicator.toml"
        config.write_text(
            daemon_config(places, rows_per_s=options.points / _COPY_S), encoding="utf-8"
        )
        async with HttpControl(f"http://{places.listen}", Secret("")) as control:
            replication = Replication(config, control, progress)
            chaos = Chaos(replication, progress, seed=seed, active=options.crash)
            try:
                await Scenario(stage, replication, chaos, progress, outcome).play(
                    revert=options.revert
                )
            finally:
                await replication.stop()
