"""What the source's rows and the settings say of the events that come."""

from __future__ import annotations

import msgspec
import pytest

from replicator.codecs.validation import Demand
from replicator.errors import Refused
from replicator.migration.preflight.routes import draw_atlas
from replicator.model.point import Point
from replicator.model.schema import VectorSchema
from replicator.model.write import Upsert
from replicator.stream.embedding import Embeddings
from replicator.stream.patience import Patience
from replicator.stream.reading import Reader
from tests.migration.rig import World
from tests.stream.rig import BOOKS, upsert, virtual

V = frozenset(["v"])


async def demand(world: World) -> Demand:
    world.target.create(msgspec.structs.replace(BOOKS, name="books_v2"))
    atlas = await draw_atlas(
        world.settings,
        Reader(world.source.attach()),
        Reader(world.target.attach()),
        embeddings=Embeddings(None, Patience(world.settings.stream)),
    )
    assert atlas.forward["books"].demand == atlas.reverse["books"].demand
    return atlas.forward["books"].demand


def declare(world: World, names: list[str] | None) -> None:
    [collection] = world.settings.collections
    collection = msgspec.structs.replace(collection, vectors_required=names)
    world.settings = msgspec.structs.replace(world.settings, collections=[collection])


@virtual
async def test_the_only_vector_is_demanded_unless_a_row_lacks_it() -> None:
    world = World()
    assert await demand(world) == Demand(V)
    world.seed(*range(5))
    assert await demand(world) == Demand(V)
    world.source.write("books", Upsert(Point(9, {}, {})))
    assert await demand(world) == Demand()


@virtual
async def test_of_several_vectors_some_are_demanded_where_rows_show_it() -> None:
    world = World()
    world.source.collections.clear()
    vectors = {name: VectorSchema(size=2) for name in "vw"}
    world.source.create(msgspec.structs.replace(BOOKS, vectors=vectors))
    assert await demand(world) == Demand()
    world.seed(1)
    assert await demand(world) == Demand(some=True)


@virtual
async def test_what_is_declared_is_the_last_word() -> None:
    world = World()
    declare(world, [])
    assert await demand(world) == Demand(declared=True)
    declare(world, ["v"])
    world.source.write("books", Upsert(Point(9, {}, {})))
    assert await demand(world) == Demand(V, declared=True)
    declare(world, ["w"])
    with pytest.raises(Refused) as caught:
        await demand(world)
    assert caught.value.code == "transform-invalid"


@virtual
async def test_an_event_that_would_wipe_a_vector_is_a_letter_and_the_point_stays() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running():
        world.emit(msgspec.structs.replace(upsert(1, n=2), vectors={}))
        await world.until_applied()
        [letter] = await world.state.letters()
        assert (letter.code, letter.path) == ("vector-missing", "vectors.v")
        assert world.held(1) == world.source.points("books")[1]


@virtual
async def test_a_row_of_the_source_without_vectors_is_copied_all_the_same() -> None:
    world = World()
    world.seed(*range(30))
    world.source.write("books", Upsert(Point(99, {}, {"n": 1})))
    async with world.running():
        assert world.held(99) == Point(99, {}, {"n": 1})
        assert await world.state.letters() == []
