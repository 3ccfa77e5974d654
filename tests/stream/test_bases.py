"""A store that cannot patch is given whole points, made of what it holds and nothing older."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import msgspec
import pytest

from replicator.errors import OutcomeUnknown, Rejected, Unavailable
from replicator.model.phase import Direction
from replicator.model.write import Delete, Patch, Upsert, Write, WriteBatch
from replicator.stream import bases
from replicator.stream.ownership import Purpose, Revoked
from replicator.testing.faults import Fault, Faults
from replicator.testing.memory_store import MEMORY
from tests.stream.rig import (
    Rig,
    delete,
    key,
    now,
    patch,
    point,
    refuses_poison,
    upsert,
    virtual,
)

WHOLE = msgspec.structs.replace(MEMORY, patches=False)
UNKNOWN = OutcomeUnknown("outcome-unknown", "the reply is lost")
STALE_S = 10.0


def rig_of(**given: Any) -> Rig:
    return Rig(traits=WHOLE, **given)


def stale_rig(**given: Any) -> Rig:
    """Reads show any moment of the last ten seconds; mostly an old one."""
    rig = rig_of(target_staleness_s=STALE_S, **given)
    rig.target.faults = Faults(Random(1), {Fault.STALE_READ: 0.9})
    return rig


def patch_of(number: int, **fields: Any) -> Patch:
    return Patch(id=number, set=fields)


async def write(rig: Rig, *writes: Write) -> None:
    written = await rig.writer.write(rig.lease, "books", writes)
    assert written.rejected == {}


@virtual
async def test_a_patch_becomes_the_whole_point() -> None:
    rig = rig_of()
    rig.seed(point(1, a=1, b=2, c=3))
    await write(rig, Patch(id=1, set={"a": 9, "b": None}, unset=("c",)), Upsert(point(2)))
    assert rig.payloads() == {1: {"a": 9}, 2: {}}


@virtual
async def test_a_patch_of_an_absent_point_writes_nothing_and_is_counted() -> None:
    rig = rig_of()
    await rig.applier.apply(rig.lease, [(key(1), patch(1, a=1))])
    assert rig.applier.absent == 1
    assert rig.door.batches == []


@virtual
async def test_a_row_that_cannot_be_read_refuses_its_own_patch_alone() -> None:
    rig = rig_of()
    rig.seed(point(1), point(2))
    rig.bases.unreadable[1] = Rejected("vector-not-finite", "NaN", "vectors.v")
    changes = [(key(n), patch(n, a=n)) for n in (1, 2)]
    refused = await rig.applier.apply(rig.lease, changes)
    assert {k.id: error.code for k, error in refused.items()} == {1: "vector-not-finite"}
    assert rig.payloads() == {1: {}, 2: {"a": 2}}


@virtual
async def test_no_more_bases_are_held_than_make_a_page() -> None:
    rig = rig_of()
    rig.seed(*(point(n) for n in range(60)))
    await write(rig, *(patch_of(n, a=1) for n in range(60)))
    # The first page is small, as nobody knows how large the rows are.
    assert [len(ids) for _, ids in rig.bases.fetched] == [8, 32, 20]
    assert all(held == {"a": 1} for held in rig.payloads().values())


@virtual
async def test_a_lost_reply_is_followed_by_the_same_image() -> None:
    rig = rig_of(bound_s=5.0)
    rig.seed(point(1, n=0))
    rig.door.errors.append(UNKNOWN)
    await write(rig, patch_of(1, n=1))
    [(first, one), (second, other)] = rig.door.batches
    assert (first, second) == (0.0, 5.0)
    assert one == other
    assert len(rig.bases.fetched) == 1
    assert rig.payloads() == {1: {"n": 1}}


@virtual
async def test_no_base_is_fetched_while_an_earlier_write_may_still_land() -> None:
    rig = rig_of(bound_s=5.0)
    rig.seed(point(1, n=0))
    rig.target.faults = Faults(Random(1), {Fault.LATE_WRITE: 1.0})
    cut = asyncio.create_task(write(rig, Upsert(point(1, n=1, whole=True))))
    await asyncio.sleep(0.1)
    cut.cancel()
    await asyncio.wait([cut])
    rig.target.faults = Faults()
    # A process that was killed with the write on its way leaves the same behind.
    await write(rig, patch_of(1, p=1))
    [(fetched, _)] = rig.bases.fetched
    assert fetched >= 5.0
    assert rig.payloads() == {1: {"n": 1, "whole": True, "p": 1}}


@virtual
async def test_who_ends_between_fetch_and_write_has_written_nothing() -> None:
    rig = rig_of(in_flight_max=1)
    rig.seed(point(1, n=0))
    rig.door.held = {2}
    other = asyncio.create_task(write(rig, Upsert(point(2))))
    patching = asyncio.create_task(write(rig, patch_of(1, n=1)))
    await rig.until(lambda: bool(rig.bases.fetched))
    rig.lease.revoke()
    with pytest.raises(Revoked):
        await patching
    rig.door.release()
    await other
    assert rig.payloads() == {1: {"n": 0}, 2: {}}
    assert rig.writer.guard.is_clear


@virtual
async def test_a_store_that_is_away_is_waited_for_no_longer_than_the_lease_is_held() -> None:
    rig = rig_of()
    rig.seed(point(1))
    rig.target.away = True
    patching = asyncio.create_task(write(rig, patch_of(1, n=1)))
    await asyncio.sleep(60)
    assert rig.patience.trouble is not None
    rig.lease.revoke()
    with pytest.raises(Revoked):
        await patching
    assert rig.patience.trouble is None


# -- a store that does not show at once what was written ---------------------------------------


@virtual
async def test_a_point_that_is_written_and_patched_at_once_costs_no_fetch_and_no_wait() -> None:
    rig = stale_rig()
    await asyncio.sleep(STALE_S)
    begun = now()
    await write(rig, Upsert(point(1, n=0)))
    for n in range(5):
        await write(rig, patch_of(1, **{f"p{n}": n}))
    await write(rig, Delete(1))
    assert (await rig.writer.write(rig.lease, "books", [patch_of(1, q=1)])).absent == 1
    assert now() - begun < 1
    assert rig.bases.fetched == []
    assert rig.payloads() == {}


@virtual
async def test_every_patch_finds_what_was_written_before_it() -> None:
    for seed in range(8):
        rig = stale_rig(bound_s=3.0)
        rig.target.faults = Faults(
            Random(seed), {Fault.STALE_READ: 0.9, Fault.REPLY_LOST: 0.2, Fault.LATE_WRITE: 0.2}
        )
        random = Random(seed)
        rig.seed(*(point(n) for n in range(4)))
        expected: dict[int, dict[str, int] | None] = {n: {} for n in range(4)}
        for step in range(60):
            number = random.randrange(4)
            held = expected[number]
            match random.randrange(6):
                case 0:
                    await write(rig, Delete(number))
                    expected[number] = None
                case 1:
                    await write(rig, Upsert(point(number, n=step)))
                    expected[number] = {"n": step}
                case _:
                    await write(rig, patch_of(number, **{f"p{step % 3}": step}))
                    if held is not None:
                        held[f"p{step % 3}"] = step
            await asyncio.sleep(random.choice([0, 0, 0, 4, 11]))
        await asyncio.sleep(4)
        wanted = {n: held for n, held in expected.items() if held is not None}
        assert rig.payloads() == wanted


@virtual
async def test_who_comes_anew_waits_until_reads_show_what_others_wrote_before() -> None:
    rig = stale_rig()
    await asyncio.sleep(60)
    rig.seed(point(1, theirs=True))  # right before the lease
    lease = rig.ownership.lease(Direction.FORWARD, Purpose.REPAIR, 0)
    patching = asyncio.create_task(rig.writer.write(lease, "books", [patch_of(1, ours=1)]))
    await asyncio.sleep(1)
    [wait] = rig.patience.waits.all
    assert (wait.code, wait.planned) == ("stale-reads", True)
    await patching
    assert rig.patience.waits.all == []
    [(fetched, _)] = rig.bases.fetched
    assert fetched == 70.0
    assert rig.payloads() == {1: {"theirs": True, "ours": 1}}


@virtual
async def test_what_is_forgotten_for_its_size_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bases, "RECENT_BYTES", 3000)
    rig = stale_rig()
    await asyncio.sleep(STALE_S)
    await write(rig, Upsert(point(1, n=1)))
    await write(rig, Upsert(point(2, text="x" * 2700)))
    await write(rig, patch_of(2, p=1))
    assert rig.bases.fetched == []
    await write(rig, patch_of(1, p=1))
    [(fetched, _)] = rig.bases.fetched
    assert fetched >= 2 * STALE_S
    assert rig.payloads()[1] == {"n": 1, "p": 1}


@virtual
async def test_a_refused_image_leaves_what_was_written_before_it_in_mind() -> None:
    rig = stale_rig()
    rig.target.refuses = refuses_poison
    await asyncio.sleep(STALE_S)
    await rig.applier.apply(rig.lease, [(key(1), upsert(1, n=1))])
    refused = await rig.applier.apply(rig.lease, [(key(1), upsert(1, poison="point"))])
    assert list(refused) == [key(1)]
    await rig.applier.apply(rig.lease, [(key(1), patch(1, p=1))])
    assert rig.bases.fetched == []
    assert rig.payloads() == {1: {"n": 1, "p": 1}}


@virtual
async def test_after_a_write_without_an_answer_nothing_remembered_is_believed() -> None:
    rig = stale_rig(bound_s=5.0)
    await asyncio.sleep(STALE_S)
    await write(rig, Upsert(point(1, n=1)))
    rig.target.faults = Faults(Random(1), {Fault.REPLY_LOST: 1.0})
    cut = asyncio.create_task(write(rig, Upsert(point(1, n=2))))
    await asyncio.sleep(1)
    cut.cancel()
    await asyncio.wait([cut])
    rig.target.faults = Faults(Random(1), {Fault.STALE_READ: 0.9})
    at = now()
    await write(rig, patch_of(1, p=1))
    [(fetched, _)] = rig.bases.fetched
    assert fetched == at + 5.0 + STALE_S
    assert rig.payloads() == {1: {"n": 2, "p": 1}}


@virtual
async def test_a_write_that_was_never_sent_leaves_the_one_before_it_to_be_waited_for() -> None:
    rig = stale_rig(in_flight_max=1)
    await asyncio.sleep(STALE_S)
    await write(rig, Upsert(point(1, n=1)))
    rig.door.held = {2}
    other = asyncio.create_task(write(rig, Upsert(point(2))))
    await asyncio.sleep(0)
    cut = asyncio.create_task(write(rig, Upsert(point(1, n=2))))
    await asyncio.sleep(0.1)
    cut.cancel()
    await asyncio.wait([cut])
    rig.door.release()
    await other
    assert rig.writer.guard.is_clear
    await write(rig, patch_of(1, p=1))
    assert rig.payloads() == {1: {"n": 1, "p": 1}, 2: {}}


@virtual
async def test_what_another_owner_wrote_in_between_is_not_overwritten_from_memory() -> None:
    rig = stale_rig()
    await asyncio.sleep(STALE_S)
    await write(rig, Upsert(point(1, n=1)))
    rig.lease.give_back()
    rig.seed(point(1, n=2), source=False)  # in the reverse window, say
    rig.lease = rig.ownership.lease(Direction.FORWARD, Purpose.STREAM, 2)
    await write(rig, patch_of(1, p=1))
    assert rig.payloads() == {1: {"n": 2, "p": 1}}


@virtual
async def test_a_wipe_leaves_nothing_in_mind() -> None:
    rig = stale_rig()
    await asyncio.sleep(STALE_S)
    await write(rig, Upsert(point(1, n=1)))
    store = rig.target.attach()
    await rig.writer.administer(rig.lease, lambda: store.wipe("books"))
    assert (await rig.writer.write(rig.lease, "books", [patch_of(1, p=1)])).absent == 1
    assert rig.payloads() == {}


# -- as part of the stream ---------------------------------------------------------------------


@virtual
async def test_a_stream_of_patches_ends_as_with_a_store_that_patches() -> None:
    rig = stale_rig(batch_records=3)
    rig.target.refuses = refuses_poison
    rig.door.errors.extend([Unavailable("target-unavailable", "away"), UNKNOWN])
    rig.seed(point(1, old=1), point(2, old=2))
    rig.emit(
        patch(1, a=1),
        upsert(3, n=3),
        patch(3, a=3),
        patch(2, poison="point"),
        patch(2, b=2),
        delete(1),
        patch(1, never=1),
        patch(4, never=1),
    )
    async with rig.streaming():
        await rig.until_written()
    assert rig.payloads() == {2: {"old": 2, "b": 2}, 3: {"n": 3, "a": 3}}
    assert rig.counters.absent == 1
    assert [code for _, code, _ in await rig.letters_now()] == ["target-rejected"]
    assert rig.door.clashes == []


@virtual
async def test_a_key_is_never_in_two_batches_at_once() -> None:
    rig = rig_of(batch_records=2)
    rig.door.takes_s = 1.0
    rig.seed(point(1), point(2))
    async with rig.streaming():
        for n in range(20):
            rig.emit(patch(1 + n % 2, **{f"p{n}": n}))
            await asyncio.sleep(0.4)
        await rig.until_written()
    assert rig.door.clashes == []
    assert rig.payloads() == {
        number: {f"p{n}": n for n in range(20) if 1 + n % 2 == number} for number in (1, 2)
    }


def test_a_batch_in_the_port_never_holds_a_patch_for_it() -> None:
    """The store in memory, and with it the simulation, would notice."""

    @virtual
    async def patching() -> None:
        rig = rig_of()
        await rig.target.attach().apply(WriteBatch("books", (patch_of(1, a=1),)))

    with pytest.raises(AssertionError, match="whole points only"):
        patching()
