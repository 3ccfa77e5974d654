"""A plain copy of a store that somebody wrote meanwhile: it is mended, or it says so."""

from __future__ import annotations

import msgspec
import pytest

from replicator.errors import ReplicatorError
from replicator.migration.copy.backfill import Backfill
from replicator.model.phase import Phase
from replicator.model.schema import Distance
from replicator.model.write import Delete, Upsert, Write
from replicator.testing.memory_store import MemoryStore
from tests.migration.rig import World
from tests.stream.rig import point, virtual


def meddle(source: MemoryStore) -> None:
    """A row vanishes, one changes, and one comes, behind the copy's back."""
    source.write("books", Delete(1))
    source.write("books", Upsert(point(2, year="other")))
    source.write("books", Upsert(point(9)))


@virtual
async def test_what_a_writer_changed_during_the_copy_is_mended_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(feed=False)
    world.seed(1, 2, 3)
    copy = Backfill.run

    async def run(self: Backfill) -> bool:
        done = await copy(self)
        meddle(world.source)
        return done

    monkeypatch.setattr(Backfill, "run", run)
    async with world.running(Phase.COMPLETE):
        pass
    assert world.target.points("books_v2") == world.source.points("books")
    assert "heal" in [entry.step for entry in await world.state.journal(20)]


@virtual
async def test_a_copy_whose_source_is_never_quiet_fails_and_the_next_one_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(feed=False)
    world.seed(1, 2, 3)
    writes = iter(range(100, 1000))
    count = type(world.source.attach()).count

    async def busy(self, collection):  # type: ignore[no-untyped-def]
        """Whoever begins to compare finds one more row than was copied."""
        world.source.write("books", Upsert(point(next(writes))))
        return await count(self, collection)

    with monkeypatch.context() as patching:
        patching.setattr(type(world.source.attach()), "count", busy)
        with pytest.raises(ReplicatorError) as caught:
            async with world.running(Phase.COMPLETE):
                pass
        assert caught.value.code == "source-written"
    world.restart()
    async with world.running(Phase.COMPLETE):
        pass
    assert world.target.points("books_v2") == world.source.points("books")


@virtual
async def test_a_plain_copy_into_a_target_that_is_set_otherwise_says_what_differs() -> None:
    world = World(feed=False)
    world.seed(1, 2)

    def set_otherwise(collection: str, _: Write) -> None:
        held = world.target.collections[collection]
        assert held.schema.vectors is not None
        vectors = {
            "v": msgspec.structs.replace(held.schema.vectors["v"], distance=Distance.EUCLID)
        }
        held.schema = msgspec.structs.replace(held.schema, vectors=vectors)

    world.target.on_land = set_otherwise
    with pytest.raises(
        ReplicatorError, match=r"not set as planned: books: .*distance"
    ) as caught:
        async with world.running(Phase.COMPLETE):
            pass
    assert caught.value.code == "target-incompatible"
