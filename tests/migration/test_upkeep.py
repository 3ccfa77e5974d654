"""Verification, repair and retry as a person asks for them: when they are refused, and what
they wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from replicator.errors import Refused, Rejected
from replicator.migration.process import upkeep
from replicator.model.command import Cutover, Pause, Repair, RetryLetters
from replicator.model.phase import Phase
from replicator.model.point import Point
from replicator.model.schema import Distance, IdKinds, VectorSchema
from replicator.model.traits import IdRules
from replicator.model.write import Delete, Upsert
from replicator.settings.transform import TransformSettings
from replicator.testing.memory_store import MEMORY, MemoryStore
from tests.migration.rig import SETTLE_S, World
from tests.stream.rig import (
    BOOKS,
    PAPERBACKS,
    Images,
    delete,
    key,
    now,
    patch,
    refuses_poison,
    upsert,
    vector,
    virtual,
)

# -- when it is refused --------------------------------------------------------------------


@virtual
async def test_while_it_is_paused_nothing_is_repaired_verified_or_retried() -> None:
    world = World()
    world.seed(1)
    async with world.running() as migration:
        await migration.do(Pause())
        for command in (migration.do(Repair()), world.verify(), migration.do(RetryLetters())):
            async with asyncio.timeout(10):
                with pytest.raises(Refused) as caught:
                    await command
            assert caught.value.code == "phase-refused"
            assert "paused" in caught.value.message


@virtual
async def test_in_the_reverse_window_a_persons_repair_is_refused() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running() as migration:
        await world.verify()
        await migration.do(Cutover())
        await world.until(lambda: world._is_in(Phase.STREAMING))
        before = dict(world.source.points("books"))
        with pytest.raises(Refused) as caught:
            await migration.do(Repair("books"))
        assert caught.value.code == "not-invertible"
        assert world.source.points("books") == before


@virtual
async def test_the_letter_of_a_copied_row_stays_open_in_the_reverse_window() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running() as migration:
        await world.verify()
        row = migration.engine.letters.of_row(
            key(1), Rejected("target-rejected", "no"), None, ""
        )
        await migration.engine.letters.keep_rows([row])
        await migration.do(Cutover(waive_dead_letters=True))
        await world.until(lambda: world._is_in(Phase.STREAMING))
        written = len(world.source.points("books"))
        [outcome] = (await migration.do(RetryLetters())).values()
        assert outcome != "settled"
        assert [letter.state.value for letter in await world.state.letters()] == ["open"]
        assert len(world.source.points("books")) == written


# -- what it waits for ---------------------------------------------------------------------


@virtual
async def test_a_verification_waits_until_the_target_must_show_what_was_applied() -> None:
    world = World(target_staleness_s=9.0)
    world.seed(1)
    async with world.running():
        world.spoil(Delete(1))
        fetched: list[float] = []
        fetch = world.door._store.fetch

        async def noted(*arguments: Any) -> Any:
            fetched.append(now())
            return await fetch(*arguments)

        world.door.fetch = noted  # type: ignore[attr-defined]
        report = await world.verify()
        assert report.missing == 1
        sighted, judged = fetched[0], fetched[-1]
        assert judged - sighted >= 9.0


@virtual
async def test_a_retried_patch_takes_the_image_no_sooner_than_the_source_must_show_it() -> None:
    world = World(transform=TransformSettings(filter=PAPERBACKS))
    world.seed(1, kind="paper")
    world.target.refuses = refuses_poison
    async with world.running() as migration:
        world.write(patch(1, kind="paper", poison="point"))
        await world.until_applied()
        world.target.refuses = None
        world.images.fetched.clear()
        began = now()
        assert list((await migration.do(RetryLetters())).values()) == ["settled"]
        [(read_at, _)] = world.images.fetched
        assert read_at - began >= SETTLE_S - 1e-6


@virtual
async def test_an_event_that_comes_while_a_retry_reads_the_log_is_written_after_it() -> None:
    world = World()
    world.target.refuses = refuses_poison
    async with world.running() as migration:
        world.write(upsert(1, poison="point"))
        await world.until_applied()
        world.target.refuses = None
        feed = migration.parts.feed
        assert feed is not None
        read = feed.read

        async def slow(*arguments: Any) -> AsyncIterator[Any]:
            async for records in read(*arguments):
                await asyncio.sleep(5)
                yield records

        feed.read = slow  # type: ignore[method-assign,assignment]
        retrying = asyncio.create_task(migration.do(RetryLetters()))
        await asyncio.sleep(1)
        world.write(delete(1))
        await asyncio.sleep(2)
        assert list((await retrying).values()) == ["settled"]
        await world.until_applied()
        assert world.payloads() == {}
        assert world.door.clashes == []


# -- strays --------------------------------------------------------------------------------


@virtual
async def test_a_stray_at_the_id_of_a_key_is_gone_before_that_key_is_written() -> None:
    world = World()
    world.source = MemoryStore(
        "source", traits=replace(MEMORY, ids=IdRules(kinds=IdKinds.STRING))
    )
    world.source.create(BOOKS)
    world.images = Images(world.source.attach())
    world.restart()
    world.source.write("books", Upsert(Point("a", {"v": vector()}, {"n": 1})))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(upkeep, "_REPAIR_KEYS", 1)  # the two are not in one batch
        async with world.running() as migration:
            [place] = world.payloads()
            # Somebody wrote it without our mark: nothing says that it is of the key "a".
            world.spoil(Upsert(Point(place, {"v": vector()}, {"n": 2})))
            report = await world.verify()
            assert report.extra == 1
            await migration.do(Repair())
            assert [held["n"] for held in world.payloads().values()] == [1]
            assert (await world.verify()).equal


# -- stores that keep a vector's direction only --------------------------------------------


@virtual
async def test_a_store_that_normalises_is_equal_to_one_that_does_not() -> None:
    world = World()
    world.source = MemoryStore(
        "source",
        traits=replace(MEMORY, vectors=replace(MEMORY.vectors, normalises=False)),
    )
    cosine = {"v": VectorSchema(size=2, distance=Distance.COSINE)}
    world.source.create(msgspec.structs.replace(BOOKS, vectors=cosine))
    world.images = Images(world.source.attach())
    world.restart()
    world.source.write("books", Upsert(Point(1, {"v": vector(8.0)}, {})))
    async with world.running():
        held = world.held(1)
        assert held is not None
        assert held.vectors["v"] == vector(1.0)
        assert (await world.verify()).equal
