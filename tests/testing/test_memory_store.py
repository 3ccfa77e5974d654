"""The store in memory: its contract, and that it misbehaves when and as it should."""

from __future__ import annotations

import asyncio
from array import array
from random import Random

import pytest

from replicator.errors import OutcomeUnknown, Rejected, Retryable, Unavailable
from replicator.model.point import Point
from replicator.model.schema import CollectionSchema, Distance, IdKinds, VectorSchema
from replicator.model.search import Query
from replicator.model.write import Delete, Patch, Upsert, Write, WriteBatch
from replicator.testing.faults import Fault, Faults
from replicator.testing.loop import run_virtual
from replicator.testing.memory_client import AttachedStore
from replicator.testing.memory_store import MemoryStore


def floats(*components: float) -> bytes:
    return array("f", components).tobytes()


def schema(distance: Distance = Distance.DOT) -> CollectionSchema:
    return CollectionSchema(
        name="books",
        vectors={"": VectorSchema(size=2, distance=distance)},
        ids=IdKinds.UINT64,
    )


def store_with(
    rates: dict[Fault, float] | None = None, *, seed: int = 0, bound_s: float = 5.0
) -> MemoryStore:
    store = MemoryStore(
        faults=Faults(Random(seed), rates, latency_s=(0.01, 0.02)), late_write_bound_s=bound_s
    )
    store.create(schema())
    return store


def point(number: int, x: float = 1.0, **payload: object) -> Point:
    return Point(id=number, vectors={"": floats(x, 0)}, payload=payload)


def batch(*writes: Write) -> WriteBatch:
    return WriteBatch(collection="books", writes=writes)


def test_a_clean_write_is_there_when_it_returns() -> None:
    async def main() -> None:
        store = store_with()
        receipt = await store.attach().apply(
            batch(Upsert(point(1, a=1)), Patch(id=2, set={"b": 1}), Delete(id=3))
        )
        assert receipt.absent == (2,)
        assert set(store.points("books")) == {1}

    run_virtual(main())


def test_a_reply_that_is_lost_leaves_the_write_applied() -> None:
    async def main() -> None:
        store = store_with({Fault.REPLY_LOST: 1})
        with pytest.raises(OutcomeUnknown):
            await store.attach().apply(batch(Upsert(point(1))))
        await asyncio.sleep(0.1)
        assert set(store.points("books")) == {1}

    run_virtual(main())


def test_a_late_write_lands_after_the_failure_and_within_the_bound() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        delays = []
        for seed in range(40):
            store = store_with({Fault.LATE_WRITE: 1}, seed=seed)
            landed: list[float] = []
            store.on_land = lambda _collection, _write, at=landed: at.append(loop.time())
            with pytest.raises(OutcomeUnknown):
                await store.attach().apply(batch(Upsert(point(1))))
            failed = loop.time()
            await asyncio.sleep(6)
            delays.append(landed[0] - failed if landed else 6.0)
        return delays

    delays = run_virtual(main())
    assert max(delays) <= 5.0
    assert max(delays) > 4.5
    assert min(delays) < 0.5


def test_an_acknowledged_write_is_an_unknown_outcome() -> None:
    async def main() -> None:
        store = store_with({Fault.ACKNOWLEDGED: 1}, seed=3)
        with pytest.raises(OutcomeUnknown):
            await store.attach().apply(batch(Upsert(point(1))))
        await asyncio.sleep(5)
        assert set(store.points("books")) == {1}

    run_virtual(main())


def test_a_batch_cut_in_the_middle_is_an_unknown_outcome() -> None:
    async def main() -> set[int]:
        halves = set()
        for seed in range(20):
            store = store_with({Fault.PARTIAL: 1}, seed=seed)
            with pytest.raises(OutcomeUnknown):
                await store.attach().apply(batch(Upsert(point(1)), Upsert(point(2))))
            await asyncio.sleep(10)
            halves.add(len(store.points("books")))
        return halves

    assert run_virtual(main()) == {1, 2}


def test_throttling_and_absence_write_nothing() -> None:
    async def main() -> None:
        for fault, kind in ((Fault.THROTTLED, Retryable), (Fault.UNAVAILABLE, Unavailable)):
            store = store_with({fault: 1})
            with pytest.raises(kind):
                await store.attach().apply(batch(Upsert(point(1))))
            await asyncio.sleep(10)
            assert not store.points("books")
            assert store.faults.fired[fault] == 1

    run_virtual(main())


async def cancelled_while_writing(seed: int) -> MemoryStore:
    store = store_with(seed=seed)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.021):
            await store.attach().apply(batch(Upsert(point(1))))
    await asyncio.sleep(5)
    return store


def test_a_client_deadline_cancels_nothing_that_was_sent() -> None:
    async def main() -> set[int]:
        return {
            len((await cancelled_while_writing(seed)).points("books")) for seed in range(30)
        }

    assert run_virtual(main()) == {0, 1}


async def crashed_while_writing(seed: int) -> MemoryStore:
    store = store_with(seed=seed)
    view = store.attach()
    task = asyncio.create_task(view.apply(batch(Upsert(point(1)))))
    await asyncio.sleep(0.021)
    view.detach()
    task.cancel()
    await asyncio.sleep(5)
    return store


def test_a_write_sent_by_a_dead_client_lands_or_not() -> None:
    async def main() -> set[int]:
        return {len((await crashed_while_writing(seed)).points("books")) for seed in range(30)}

    assert run_virtual(main()) == {0, 1}


def test_a_dead_client_has_no_effect() -> None:
    async def main() -> None:
        store = store_with()
        view = store.attach()
        view.detach()
        with pytest.raises(asyncio.CancelledError):
            await view.apply(batch(Upsert(point(1))))
        with pytest.raises(asyncio.CancelledError):
            await view.fetch("books", [1])
        await asyncio.sleep(10)
        assert not store.points("books")

    run_virtual(main())


def refuse(fault: Fault) -> MemoryStore:
    store = store_with()
    store.refuses = lambda _collection, write: (
        (fault, Rejected("target-rejected", "no", "payload.poison")) if write.id == 2 else None
    )
    return store


def test_a_poisonous_point_is_named_and_the_others_are_written() -> None:
    async def main() -> None:
        store = refuse(Fault.POINT_REJECTED)
        receipt = await store.attach().apply(
            batch(*(Upsert(point(number)) for number in (1, 2, 3)))
        )
        assert [point_id for point_id, _ in receipt.rejected] == [2]
        assert set(store.points("books")) == {1, 3}

    run_virtual(main())


def test_a_poisonous_point_spoils_its_batch() -> None:
    async def main() -> None:
        store = refuse(Fault.BATCH_REJECTED)
        with pytest.raises(Rejected):
            await store.attach().apply(batch(*(Upsert(point(number)) for number in (1, 2, 3))))
        assert 3 not in store.points("books")

    run_virtual(main())


def stale_store(seed: int) -> MemoryStore:
    store = MemoryStore(faults=Faults(Random(seed), {Fault.STALE_READ: 1}), staleness_s=2.0)
    store.create(schema())
    return store


def test_reads_lag_writes_and_never_beyond_the_bound() -> None:
    async def main() -> tuple[set[int], set[int]]:
        soon, later = set(), set()
        for seed in range(40):
            store = stale_store(seed)
            view = store.attach()
            store.write("books", Upsert(point(1, n=1)))
            await asyncio.sleep(3)
            store.write("books", Upsert(point(1, n=2)))
            await asyncio.sleep(0.5)
            soon.add((await view.fetch("books", [1]))[1].payload["n"])
            await asyncio.sleep(1.5)
            later.add((await view.fetch("books", [1]))[1].payload["n"])
        return soon, later

    soon, later = run_virtual(main())
    assert soon == {1, 2}
    assert later == {2}


def test_a_scan_returns_every_key_that_was_there_throughout() -> None:
    async def main() -> None:
        for seed in range(20):
            random = Random(seed)
            store = store_with({Fault.STALE_READ: 0.5}, seed=seed)
            store.staleness_s = 0.05
            for number in range(60):
                store.write("books", Upsert(point(number)))
            await asyncio.sleep(0.1)
            stay = set(range(0, 60, 2))
            view = store.attach()
            seen = set()
            for chunk in await view.split("books", 3):
                cursor: str | None = None
                while True:
                    page = await anext(view.scan(chunk, cursor, 4))
                    seen |= {found.id for found in page.points}
                    store.write("books", Delete(id=random.randrange(1, 60, 2)))
                    store.write("books", Upsert(point(random.randrange(100, 200))))
                    if (cursor := page.cursor) is None:
                        break
            assert stay <= seen

    run_virtual(main())


def test_cosine_vectors_come_back_with_length_one() -> None:
    store = MemoryStore()
    store.create(schema(Distance.COSINE))
    store.write("books", Upsert(Point(id=1, vectors={"": floats(3, 4)}, payload={})))
    vector = store.points("books")[1].vectors[""]
    assert isinstance(vector, bytes)
    components = memoryview(vector).cast("f").tolist()
    assert components == pytest.approx([0.6, 0.8])


def test_a_vector_that_is_no_number_is_kept_silently() -> None:
    store = MemoryStore()
    store.create(schema(Distance.COSINE))
    store.write("books", Upsert(Point(id=1, vectors={"": floats(float("nan"), 1)}, payload={})))
    assert 1 in store.points("books")


async def test_search_returns_the_nearest_first() -> None:
    store = store_with()
    for number in range(5):
        store.write("books", Upsert(point(number, x=float(number))))
    view: AttachedStore = store.attach()
    hits = await view.search("books", Query(vector=floats(1, 0), limit=2))
    assert [hit.id for hit in hits] == [4, 3]


async def test_wiping_removes_the_points_and_the_mark() -> None:
    store = MemoryStore()
    view = store.attach()
    await view.ensure(
        CollectionSchema(
            name="books", vectors={"": VectorSchema(size=2)}, ids=IdKinds.UINT64, capture_id="c"
        )
    )
    store.write("books", Upsert(point(1)))
    described = await view.describe("books")
    assert described is not None
    assert (described.capture_id, described.points) == ("c", 1)
    await view.wipe("books")
    described = await view.describe("books")
    assert described is not None
    assert (described.capture_id, described.points) == (None, 0)
