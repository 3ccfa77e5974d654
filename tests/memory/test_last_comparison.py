"""What the last comparison of a cutover holds is bounded in bytes, whatever the keys are."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import pytest

from replicator.codecs.events import encode
from replicator.migration.equality.likeness import likeness
from replicator.migration.equality.recheck import Recheck
from replicator.model.command import Pause
from replicator.model.phase import Direction
from replicator.model.point import Point, PointId, bare
from replicator.model.position import Partition, Record
from replicator.stream.ownership import Lease, Purpose
from replicator.testing.memory_feed import MemoryFeed
from tests.migration.rig import World
from tests.stream.rig import point, upsert, virtual

KB = 1 << 10
BUDGET = 2048 * KB
SMALL, LARGE = 300, 100
"""Points of a few bytes, and behind them those of 128 KB: six times the budget. More of them,
or larger ones and a larger budget, show the same and take minutes."""


def text(number: int) -> str:
    return f"{number:08}" * (16 * KB if number >= SMALL else 1)


class Log(MemoryFeed):
    """One event of each key, made when it is read: a log in memory would hold them all."""

    async def read(
        self, partition: Partition, start: int, end: int
    ) -> AsyncIterator[list[Record]]:
        for number in range(start, end):
            key, value = encode(upsert(number, text=text(number)))
            yield [Record(partition, number, key, value, 1)]


async def fetch(_collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
    """Every point of both stores, made when it is read."""
    return {each: point(int(bare(each)), text=text(int(bare(each)))) for each in ids}


@contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("staleness_s", [0.0, 0.4], ids=["by images", "by the log"])
@virtual
async def test_the_last_comparison_holds_no_more_than_its_budget(staleness_s: float) -> None:
    world = World(staleness_s=staleness_s)
    async with world.running() as migration:
        await migration.do(Pause())
        engine, parts = migration.engine, migration.parts
        assert engine.atlas is not None
        comparison = Recheck(
            direction=Direction.FORWARD,
            feed=Log(world.log),
            intake=engine.intake(engine.atlas, Direction.FORWARD),
            written=engine.target,
            owner=engine.source,
            likeness={
                "books": likeness(
                    engine.atlas, "books", Direction.FORWARD, parts.settings.verify
                )
            },
            writer=engine.writers[Direction.FORWARD],
            lease=Lease(engine.ownership, Direction.FORWARD, Purpose.MEND, 0),
            state=world.state,
            keys_max=50_000,
            bytes_max=BUDGET,
        )
        world.images.fetch = fetch  # type: ignore[method-assign,assignment]
        world.door.fetch = fetch  # type: ignore[attr-defined]
        with traced():
            done = await comparison.run({world.first: 0}, {world.first: SMALL + LARGE})
            _, peak = tracemalloc.get_traced_memory()
        assert (done.keys, done.repaired) == (SMALL + LARGE, 0)
        assert peak < 2 * BUDGET
