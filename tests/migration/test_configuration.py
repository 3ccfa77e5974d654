"""A copy makes the target by the plan, stops at what would be lost, and ends the bulk load."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from replicator.errors import Refused
from replicator.migration.preflight.planned import read_plans
from replicator.model.phase import Phase
from replicator.model.schema import CollectionSchema, Distance, VectorSchema
from tests.migration.rig import World
from tests.stream.rig import BOOKS, virtual

NATIVE = {"shard_number": 2, "strict_mode_config": {"enabled": True}}


class Planning:
    """Lets the target of a world have settings of its own, in words of the kind `memory`."""

    def __init__(self, world: World, *, without: str = "") -> None:
        self.world = world
        self.configured: list[CollectionSchema] = []
        self.points_then: list[int] = []
        self._without = without
        held = world.source.collections["books"]
        held.schema = msgspec.structs.replace(held.schema, native=NATIVE, native_kind="memory")
        self.join()

    def join(self) -> None:
        """Once more, in the process that runs now."""
        door: Any = self.world.door
        door.plan, door.configure = self.plan, self.configure

    def plan(self, wanted: CollectionSchema) -> CollectionSchema:
        native = {name: each for name, each in wanted.native.items() if name != self._without}
        return msgspec.structs.replace(wanted, native=native, made=True)

    async def configure(self, planned: CollectionSchema) -> None:
        self.configured.append(planned)
        self.points_then.append(len(self.world.target.points("books_v2")))


@virtual
async def test_the_end_of_the_bulk_load_puts_the_kept_plan_in_force() -> None:
    world = World()
    world.seed(1, 2, 3)
    planning = Planning(world)
    async with world.running():
        plans = await read_plans(world.state)
        assert planning.configured == [plans["books_v2"]]
        assert planning.points_then == [3]
        assert plans["books_v2"].native == NATIVE
        assert (await world.verify()).equal


@virtual
async def test_a_loss_that_nobody_accepted_blocks_before_anything_is_made() -> None:
    world = World()
    world.seed(1)
    Planning(world, without="strict_mode_config")
    with pytest.raises(Refused, match="strict_mode_config"):
        await world.migration.run()
    assert world.target.collections == {}


@virtual
async def test_a_loss_that_is_accepted_does_not() -> None:
    world = World()
    world.seed(1)
    [books] = world.settings.collections
    accepting = msgspec.structs.replace(books, accept=["loss-strict-mode"])
    world.settings = msgspec.structs.replace(world.settings, collections=[accepting])
    world.restart()
    planning = Planning(world, without="strict_mode_config")
    async with world.running():
        assert [each.native for each in planning.configured] == [{"shard_number": 2}]


@virtual
async def test_a_resumed_copy_keeps_the_plan_that_it_began_with() -> None:
    world = World()
    slow = msgspec.structs.replace(world.settings.backfill, rate_max=20.0, page_rows=5)
    world.settings = msgspec.structs.replace(world.settings, backfill=slow)
    world.restart()
    world.seed(*range(100))
    planning = Planning(world)
    async with world.running(Phase.BACKFILL):
        await world.until(lambda: len(world.target.collections) > 0)
        await world.until(lambda: len(world.target.points("books_v2")) > 10)
    held = world.source.collections["books"]
    held.schema = msgspec.structs.replace(held.schema, native={**NATIVE, "shard_number": 9})
    world.restart()
    planning.join()
    async with world.running():
        assert [each.native for each in planning.configured] == [NATIVE]


@virtual
async def test_a_target_of_another_distance_blocks_a_run_as_it_blocks_the_check() -> None:
    world = World()
    world.seed(1)
    other = {"v": VectorSchema(size=2, distance=Distance.EUCLID)}
    world.target.create(msgspec.structs.replace(BOOKS, name="books_v2", vectors=other))
    with pytest.raises(Refused, match="euclid"):
        await world.migration.run()
    assert world.target.points("books_v2") == {}
