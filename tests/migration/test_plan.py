"""The plan says what will be written where, and admits what it does not know."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from replicator.errors import Refused, Retryable
from replicator.migration.preflight.plan import Plan, make_plan
from replicator.model.schema import Distance, IdKinds, VectorKind, VectorSchema
from replicator.settings.transform import TransformSettings
from replicator.stream.reading import Reader
from tests.migration.rig import World
from tests.stream.rig import BOOKS, virtual


class Uncounted:
    """A store that cannot count."""

    def __init__(self, store: object) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def count(self, _collection: str) -> int | None:
        return None


async def plan_of(world: World, source: object = None) -> Plan:
    return await make_plan(
        world.settings,
        source=Reader(source or world.source.attach()),  # type: ignore[arg-type]
        target=Reader(world.target.attach()),
    )


@virtual
async def test_the_plan_counts_points_bytes_and_time() -> None:
    world = World()
    world.seed(*range(300))
    plan = await plan_of(world)
    assert (plan.name, plan.feed, plan.points) == ("test", "kafka", 300)
    assert plan.bytes == 300 * (2 * 4 + 1024)
    assert plan.seconds == pytest.approx(0.1)
    assert plan.complexity == "simple"
    assert world.target.collections == {}


@virtual
async def test_what_cannot_be_counted_is_null_and_not_zero() -> None:
    world = World()
    world.seed(1)
    plan = await plan_of(world, Uncounted(world.source.attach()))
    assert (plan.points, plan.bytes, plan.seconds) == (None, None, None)
    assert plan.collections[0].points is None


@virtual
async def test_one_collection_that_cannot_be_counted_makes_the_sum_unknown() -> None:
    world = World()
    world.seed(1)
    world.source.create(msgspec.structs.replace(BOOKS, name="films"))
    [books] = world.settings.collections
    films = msgspec.structs.replace(books, source="films", target="films_v2")
    world.settings = msgspec.structs.replace(world.settings, collections=[books, films])
    assert (await plan_of(world)).points == 1

    class CountsBooks(Uncounted):
        async def count(self, collection: str) -> int | None:
            return 1 if collection == "books" else None

    plan = await plan_of(world, CountsBooks(world.source.attach()))
    assert [x.points for x in plan.collections] == [1, None]
    assert plan.points is None


@virtual
async def test_a_target_that_is_there_is_not_created() -> None:
    world = World()
    assert (await plan_of(world)).collections[0].creates_target
    world.target.create(msgspec.structs.replace(BOOKS, name="books_v2"))
    assert not (await plan_of(world)).collections[0].creates_target


@virtual
async def test_every_vector_is_described_with_what_becomes_of_it() -> None:
    world = World(transform=TransformSettings(vectors={"v": "", "s": "words"}))
    del world.source.collections["books"]
    world.source.create(
        msgspec.structs.replace(
            BOOKS,
            vectors={
                "v": VectorSchema(size=2, distance=Distance.COSINE),
                "s": VectorSchema(kind=VectorKind.SPARSE),
                "gone": VectorSchema(size=4),
            },
        )
    )
    plan = await plan_of(world)
    assert plan.collections[0].vectors == {
        "v": "dense 2 cosine → (unnamed)",
        "s": "sparse → words",
        "gone": "dense 4 does not travel",
    }
    assert plan.complexity == "lossy"


@virtual
async def test_a_transform_that_renames_is_mapped_and_told_in_sentences() -> None:
    world = World(transform=TransformSettings(rename={"n": "number"}))
    plan = await plan_of(world)
    assert plan.complexity == "mapped"
    assert plan.collections[0].steps == ['rename: {"n":"number"}']
    assert plan.collections[0].lossy == []


@virtual
async def test_a_collection_that_does_not_exist_is_refused() -> None:
    world = World()
    del world.source.collections["books"]
    with pytest.raises(Refused) as caught:
        await plan_of(world)
    assert caught.value.code == "source-missing"


@virtual
async def test_a_store_that_is_away_is_said_so() -> None:
    world = World()
    world.target.away = True
    with pytest.raises(Retryable):
        await plan_of(world)


@virtual
async def test_the_indexes_are_those_that_the_target_will_have() -> None:
    world = World(transform=TransformSettings(rename={"n": "number"}))
    del world.source.collections["books"]
    world.source.create(
        msgspec.structs.replace(BOOKS, indexes={"n": "integer"}, ids=IdKinds.UINT64)
    )
    assert (await plan_of(world)).collections[0].indexes == {"number": "integer"}
