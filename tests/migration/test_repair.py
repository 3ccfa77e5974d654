"""Repair copies the source's image anew; retry replays a key's own events. Neither writes what
was stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from replicator.codecs.events import encode
from replicator.errors import Refused, Rejected, Unavailable
from replicator.migration.process import upkeep
from replicator.model.command import Cutover, DiscardLetters, Repair, RetryLetters
from replicator.model.epoch import EpochEnd, Epochs
from replicator.model.event import Key
from replicator.model.letter import LetterState, RejectedRecord
from replicator.model.write import Delete, Patch, Upsert
from replicator.settings.transform import TransformSettings
from tests.migration.rig import SETTLE_S, World
from tests.stream.rig import (
    PAPERBACKS,
    delete,
    key,
    now,
    patch,
    point,
    refuses_poison,
    upsert,
    virtual,
)


async def states(world: World) -> list[tuple[int | None, str]]:
    return [(x.offset, x.state.value) for x in await world.state.letters()]


async def retry(world: World) -> list[str]:
    return list((await world.migration.do(RetryLetters())).values())


# -- repair --------------------------------------------------------------------------------


@virtual
async def test_repair_copies_the_sources_image_or_its_absence() -> None:
    world = World()
    world.seed(1, 2, n=1)
    async with world.running() as migration:
        world.spoil(Delete(1))
        world.spoil(Patch(id=2, set={"n": 2}))
        world.spoil(Upsert(point(3)))
        await world.verify()
        assert await migration.do(Repair()) == 3
        assert world.payloads() == {1: {"n": 1}, 2: {"n": 1}}
        assert [x async for x in migration.findings()] == []
        assert (await migration.status()).verify.missing == 0


@virtual
async def test_a_whole_collection_can_be_copied_anew() -> None:
    world = World()
    world.seed(*range(30))
    async with world.running() as migration:
        world.spoil(Delete(7))
        assert await migration.do(Repair("books")) == 30
        assert len(world.payloads()) == 30


@virtual
async def test_the_repair_of_a_collection_outlasts_a_source_that_goes_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "_KEYS_PAGE", 10)
    world = World()
    world.seed(*range(300))
    scan, failures = world.images._store.scan, iter([False, True, True])

    async def failing(*arguments: Any) -> AsyncIterator[Any]:
        async for page in scan(*arguments):
            yield page
            if next(failures, False):
                raise Unavailable("store-unavailable", "it went away")

    async with world.running() as migration:
        world.images.scan = failing  # type: ignore[attr-defined]
        assert await migration.do(Repair("books")) == 300
        assert list(failures) == []


@virtual
async def test_a_key_under_repair_is_held_until_the_source_must_show_everything() -> None:
    world = World()
    world.seed(1)
    async with world.running() as migration:
        world.spoil(Delete(1))
        await world.verify()
        world.images.fetched.clear()
        began = now()
        repairing = asyncio.create_task(migration.do(Repair()))
        await asyncio.sleep(SETTLE_S / 2)
        world.write(upsert(1, n=2), upsert(9))
        await asyncio.sleep(SETTLE_S / 4)
        assert world.held(9) is not None
        assert world.held(1) is None  # its event waits
        assert await repairing == 1
        [(read_at, _)] = world.images.fetched
        assert read_at - began >= SETTLE_S
        await world.until_applied()
        assert world.payloads()[1] == {"n": 2}


@virtual
async def test_repair_waits_for_the_write_under_way_before_it_reads() -> None:
    world = World()
    world.seed(1)
    async with world.running() as migration:
        world.spoil(Patch(id=1, set={"wrong": 1}))
        await world.verify()
        world.door.held = {1}
        world.write(upsert(1, n=2))
        await world.until(
            lambda: bool(migration.engine.stream and migration.engine.stream.in_flight)
        )
        world.images.fetched.clear()
        repairing = asyncio.create_task(migration.do(Repair()))
        await asyncio.sleep(20)
        assert world.images.fetched == []
        world.door.release()
        await repairing
        assert world.door.clashes == []
        assert world.payloads() == {1: {"n": 2}}


@virtual
async def test_repair_settles_the_letters_it_healed_but_not_those_of_late_writers() -> None:
    world = World()
    world.seed(1, 2)
    async with world.running() as migration:
        world.log.produce(b"books/1", b"\xff", partition=0)
        await world.until_applied()
        late = RejectedRecord(
            key=b"books/2",
            value=b"",
            code="epoch-stale",
            path="epoch",
            message="late",
            at=0.0,
            partition=world.first,
            offset=77,
            event_key=key(2),
        )
        await migration.engine.letters.keep([late])
        await migration.do(Repair("books"))
        assert await states(world) == [(0, "settled"), (77, "open")]
        assert (await migration.status()).stream.dead_letters == 1


@virtual
async def test_a_key_that_cannot_be_carried_becomes_a_letter_and_stays_a_finding() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running() as migration:
        world.spoil(Delete(1))
        await world.verify()
        world.target.refuses = refuses_poison
        world.source.write("books", Patch(id=1, set={"poison": "point"}))
        assert await migration.do(Repair()) == 0
        assert await states(world) == [(None, "open")]
        assert [x.key async for x in migration.findings()] == [key(1)]


@virtual
async def test_repairing_an_unknown_collection_is_refused() -> None:
    world = World()
    async with world.running() as migration:
        with pytest.raises(Refused) as caught:
            await migration.do(Repair("films"))
        assert caught.value.code == "not-found"


@virtual
async def test_in_the_reverse_window_nothing_is_repaired() -> None:
    world = World()
    async with world.running() as migration:
        await world.verify()
        await migration.do(Cutover())
        with pytest.raises(Refused) as caught:
            await migration.do(Repair())
        assert caught.value.code == "not-invertible"


# -- retry ---------------------------------------------------------------------------------


@virtual
async def test_retry_replays_the_keys_events_from_the_letter_on() -> None:
    world = World()
    world.target.refuses = refuses_poison
    async with world.running():
        world.write(upsert(1, poison="point"))
        await world.until_applied()
        world.write(patch(1, b=2), upsert(2))
        await world.until_applied()
        assert await states(world) == [(0, "open")]
        world.target.refuses = None
        assert await retry(world) == ["settled"]
        assert world.payloads() == {1: {"poison": "point", "b": 2}, 2: {}}
        assert await states(world) == [(0, "settled")]


@virtual
async def test_a_letter_that_still_cannot_be_carried_stays_open_with_its_reason() -> None:
    world = World()
    world.target.refuses = refuses_poison
    async with world.running():
        world.write(upsert(1, poison="point"))
        await world.until_applied()
        assert await retry(world) == ["the target will not hold this"]
        assert await states(world) == [(0, "open")]


@virtual
async def test_a_record_that_cannot_be_read_waits_for_a_later_image() -> None:
    world = World()
    world.target.refuses = refuses_poison
    async with world.running():
        world.log.produce(b"books/1", b"\xff", partition=0)
        world.emit(patch(1, a=1))
        await world.until_applied()
        [outcome] = await retry(world)
        assert outcome != "settled"
        world.emit(upsert(1, poison="point"))  # refused, so that the first stays open
        await world.until_applied()
        world.target.refuses = None
        assert await retry(world) == ["settled", "settled"]
        assert world.payloads() == {1: {"poison": "point"}}


@virtual
async def test_a_deleted_key_is_not_resurrected_by_its_letter() -> None:
    world = World()
    world.target.refuses = refuses_poison
    async with world.running() as migration:
        world.write(upsert(1, poison="point"))
        await world.until_applied()
        [letter] = await world.state.letters()
        held = asyncio.Event()

        async def delete_held() -> None:
            stream = migration.engine.stream
            assert stream is not None
            async with migration.engine.ownership.holds.holding([key(1)]):
                world.write(delete(1))
                await world.until(lambda: stream.lanes[world.first].watermark.tracked_to == 2)
                held.set()

        # The delete was read and waits; the retry reads the log up to there.
        await delete_held()
        world.target.refuses = None
        await migration.do(RetryLetters((letter.number,)))
        await world.until_applied()
        assert world.payloads() == {}


@virtual
async def test_an_event_older_by_version_is_left_out_of_a_replay() -> None:
    world = World()
    world.target.refuses = refuses_poison
    async with world.running():
        world.write(upsert(1, version=5, poison="point", n=5))
        await world.until_applied()
        world.emit(upsert(1, version=3, n=3))
        await world.until_applied()
        assert world.payloads() == {1: {"n": 3}}, "what was refused hides nothing"
        world.target.refuses = None
        assert await retry(world) == ["settled"]
        assert world.payloads()[1]["n"] == 5
        world.emit(upsert(1, version=4, n=4))
        await world.until_applied()
        assert world.payloads()[1]["n"] == 5, "what a retry applied is known as newer"


@virtual
async def test_a_letter_older_than_what_the_target_holds_is_settled_and_not_written() -> None:
    world = World()
    world.target.refuses = refuses_poison
    async with world.running() as migration:
        world.emit(upsert(1, version=5, n=5), patch(1, m=1))
        await world.until_applied()
        # Rejected when it was read, for a reason that has passed since then.
        stream = migration.engine.stream
        assert stream is not None
        real = stream.intake.event
        stream.intake.event = lambda _: Rejected("value-too-large", "for now")  # type: ignore[method-assign,assignment]
        world.emit(upsert(1, version=3, n=3))
        await world.until_applied()
        stream.intake.event = real  # type: ignore[method-assign]
        assert await retry(world) == ["settled"]
        assert world.payloads() == {1: {"n": 5, "m": 1}}


@virtual
async def test_a_replayed_patch_that_needs_the_image_takes_it() -> None:
    world = World(transform=TransformSettings(filter=PAPERBACKS))
    world.seed(1, kind="paper")
    world.target.refuses = refuses_poison
    async with world.running():
        world.write(patch(1, kind="paper", poison="point"))
        await world.until_applied()
        assert [state for _, state in await states(world)] == ["open"]
        world.target.refuses = None
        assert await retry(world) == ["settled"]
        assert world.payloads() == {1: {"kind": "paper", "poison": "point"}}


@virtual
async def test_a_letter_whose_key_cannot_be_read_is_for_a_person() -> None:
    world = World()
    async with world.running():
        world.log.produce(None, b"x", partition=0)
        await world.until_applied()
        [outcome] = await retry(world)
        assert "discard" in outcome
        assert await states(world) == [(0, "open")]


@virtual
async def test_a_letter_from_before_the_switch_is_not_written_over_the_owner() -> None:
    world = World()
    world.target.refuses = refuses_poison
    async with world.running() as migration:
        world.write(upsert(1, poison="point"))
        await world.until_applied()
        world.target.refuses = None
        migration.record.epochs = Epochs(ends=(EpochEnd(0, {world.first: 1}),))
        [outcome] = await retry(world)
        assert "older than the switch" in outcome
        assert world.payloads() == {}


@virtual
async def test_the_letter_of_a_row_is_healed_by_copying_the_row_anew() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running() as migration:
        row = migration.engine.letters.of_row(
            key(1), Rejected("target-rejected", "no"), None, ""
        )
        world.spoil(Delete(1))
        await migration.engine.letters.keep_rows([row])
        assert await retry(world) == ["settled"]
        assert world.payloads() == {1: {"n": 1}}


@virtual
async def test_a_letter_that_is_closed_already_says_so() -> None:
    world = World()
    async with world.running() as migration:
        world.log.produce(b"books/1", b"\xff", partition=0)
        await world.until_applied()
        [letter] = await world.state.letters()
        assert await migration.do(DiscardLetters((letter.number,))) == 1
        assert await migration.do(RetryLetters((letter.number,))) == {
            letter.number: "discarded"
        }
        assert (await migration.status()).stream.dead_letters == 0
        with pytest.raises(Refused):
            await migration.do(RetryLetters((99,)))


@virtual
async def test_the_bytes_of_a_letter_can_be_had() -> None:
    world = World()
    async with world.running() as migration:
        raw_key, value = encode(upsert(1))
        world.log.produce(raw_key, value[:-1], partition=0)
        await world.until_applied()
        [letter] = await migration.letters(LetterState.OPEN, 10, 0)
        kept = await migration.letter_bytes(letter.number)
        assert (kept.key, kept.value, kept.event_key) == (raw_key, value[:-1], Key("books", 1))
