"""Run one seed, from its plan to the end of its story, and say what went wrong."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, cast

from replicator.testing.loop import VirtualLoop, virtual_loop
from tests.simulation.coverage import Coverage
from tests.simulation.plan import Plan, draw
from tests.simulation.process import task_factory
from tests.simulation.stories import Operator
from tests.simulation.world import World

_LIMIT_S = 3600.0
"""Virtual seconds of one seed; an ordinary one takes a minute. Over it, it is stalled."""
_STEPS_MAX = 400_000
"""Steps of one seed; an ordinary one takes ten thousand."""


class Failed(AssertionError):
    """A seed that went wrong: its number, its plan, what is wrong, and the trace."""


def run_seed(seed: int, coverage: Coverage, plan: Plan | None = None) -> None:
    """Run a seed. Raises Failed."""
    plan = plan or draw(seed)
    loop = VirtualLoop(shuffle=Random(f"loop {seed}"), limit_s=_LIMIT_S, steps_max=_STEPS_MAX)
    loop.set_task_factory(cast("Any", task_factory))
    with virtual_loop(loop):
        world = World(plan, loop, coverage)
        try:
            loop.run_until_complete(_play(world))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise Failed(_describe(world, error)) from error
        finally:
            world.calm = True
    coverage.seeds += 1
    coverage.stories[plan.story] += 1
    for fault, count in world.faults.fired.items():
        coverage.faults[fault.value] += count
    if not world.faults.fired:
        raise Failed(f"seed {seed}: no fault was met")


async def _play(world: World) -> None:
    application = world.application
    application.seed_rows()
    if world.plan.story == "unstarted":
        world.take_log_away()
    # Stores and application are older than the migration.
    if world.plan.story != "plain":
        application.start()
    await asyncio.sleep(world.random.choice([0.1, 2.0]) + world.plan.source_staleness_s)
    supervisor = world.loop.create_task(world.supervise())
    story = world.loop.create_task(Operator(world).play())
    beside = [
        world.loop.create_task(work)
        for work in (world.weather(), world.look(), world.answer(), world.meddler.wander())
    ]
    waits = {supervisor, story, world.failed}
    try:
        while True:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if world.failed.done():
                world.failed.result()
            if story.done():
                story.result()
                return
            if supervisor.done():
                supervisor.result()
                waits.discard(supervisor)
    finally:
        supervisor.cancel()
        story.cancel()
        for task in beside:
            task.cancel()
        world.meddler.close()
        world.calm = False
        for process in (world.process, world.second):
            if process is not None:
                process.kill()


def _describe(world: World, error: BaseException) -> str:
    plan = world.plan
    faults = ", ".join(f"{fault.value} {rate:g}" for fault, rate in plan.rates.items())
    settings = "\n".join(f"    {collection.settings}" for collection in plan.collections)
    return (
        f"seed {plan.seed} ({plan.story}): {type(error).__name__}: {error}\n"
        f"  faults: {faults}\n  crashes: {plan.crashes}\n  collections:\n{settings}\n"
        f"  the last of what happened:\n{world.trace.show()}\n"
        f"  once more: SEED={plan.seed} pytest tests/simulation/test_simulation.py"
    )
