"""A write ends durable, or as a record that is known to be to blame; in between it waits."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from replicator.errors import (
    Blocked,
    Fatal,
    OutcomeUnknown,
    Refused,
    Rejected,
    Retryable,
    Unavailable,
)
from replicator.model.phase import Direction
from replicator.model.traits import Limits
from replicator.model.write import Delete, Patch, Upsert, Write
from replicator.stream.ownership import Purpose, Revoked
from replicator.testing.faults import Fault, Faults
from tests.stream.rig import BOOKS, Rig, now, point, refuses_poison, virtual

UNKNOWN = OutcomeUnknown("outcome-unknown", "the reply is lost")
AWAY = Unavailable("target-unavailable", "the target is away")


def image(number: int, **payload: Any) -> Write:
    return Upsert(point(number, **payload))


@virtual
async def test_a_write_that_did_not_arrive_is_tried_again_with_a_growing_backoff() -> None:
    rig = Rig()
    rig.door.errors.extend([AWAY] * 6)
    await rig.writer.write(rig.lease, "books", [image(1)])
    times = [at for at, _ in rig.door.batches]
    waits = [round(later - sooner, 6) for sooner, later in pairwise(times)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert rig.payloads() == {1: {}}
    assert rig.writer.retries == 6


@virtual
async def test_a_store_that_names_a_time_is_not_asked_sooner() -> None:
    rig = Rig()
    rig.door.errors.append(Retryable("store-throttled", "slower", 3.0))
    await rig.writer.write(rig.lease, "books", [image(1)])
    assert [at for at, _ in rig.door.batches] == [0.0, 3.0]


@virtual
async def test_after_an_unknown_outcome_the_keys_wait_out_the_bound() -> None:
    rig = Rig(bound_s=5.0)
    rig.door.errors.append(UNKNOWN)
    await rig.writer.write(rig.lease, "books", [image(1)])
    assert [at for at, _ in rig.door.batches] == [0.0, 5.0]


@virtual
async def test_a_write_that_lands_late_never_undoes_the_one_after_it() -> None:
    for seed in range(20):
        rig = Rig(bound_s=5.0)
        rig.target.faults = Faults(rates={Fault.LATE_WRITE: 0.5})
        rig.target.faults.random.seed(seed)
        await rig.writer.write(rig.lease, "books", [image(1, n=1)])
        await rig.writer.write(rig.lease, "books", [image(1, n=2)])
        await asyncio.sleep(6)
        assert rig.payloads() == {1: {"n": 2}}


@virtual
async def test_an_unknown_outcome_of_one_key_holds_no_others() -> None:
    rig = Rig(bound_s=5.0)
    rig.door.errors.append(UNKNOWN)
    held = asyncio.create_task(rig.writer.write(rig.lease, "books", [image(1)]))
    await asyncio.sleep(0.01)
    await rig.writer.write(rig.lease, "books", [image(2)])
    assert now() < 1
    await held


@virtual
async def test_a_cancelled_write_makes_everything_wait_for_the_bound() -> None:
    rig = Rig(bound_s=5.0)
    rig.door.held = {1}
    sent = asyncio.create_task(rig.writer.write(rig.lease, "books", [image(1)]))
    await asyncio.sleep(1)
    sent.cancel()
    await asyncio.wait([sent])
    rig.door.release()
    await rig.writer.write(rig.lease, "books", [image(2)])
    assert now() == 6.0
    assert rig.writer.limit.taken == 0


@virtual
async def test_a_write_cancelled_before_it_was_sent_is_no_cause_to_wait() -> None:
    rig = Rig(in_flight_max=1)
    rig.door.held = {1}
    first = asyncio.create_task(rig.writer.write(rig.lease, "books", [image(1)]))
    await asyncio.sleep(0)
    second = asyncio.create_task(rig.writer.write(rig.lease, "books", [image(2)]))
    await asyncio.sleep(0.1)
    second.cancel()
    await asyncio.wait([second])
    assert rig.writer.guard.is_clear
    rig.door.release()
    await first


@virtual
async def test_one_cancelled_while_it_waits_out_an_unknown_outcome_leaves_the_guard_to_it() -> (
    None
):
    rig = Rig(bound_s=5.0)
    rig.door.errors.append(UNKNOWN)
    waiting = asyncio.create_task(rig.writer.write(rig.lease, "books", [image(1)]))
    await asyncio.sleep(1)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not rig.writer.guard.is_clear
    assert rig.writer.trouble is None


@virtual
async def test_a_defect_in_the_connector_is_raised_and_the_write_suspected() -> None:
    rig = Rig()
    rig.door.errors.append(KeyError("a defect"))
    with pytest.raises(KeyError):
        await rig.writer.write(rig.lease, "books", [image(1)])
    assert not rig.writer.guard.is_clear


@pytest.mark.parametrize(
    "error",
    [Fatal("store-bug", "what no protocol allows"), Blocked("target-missing", "gone")],
)
@virtual
async def test_what_no_waiting_mends_is_raised(error: Exception) -> None:
    rig = Rig()
    rig.door.errors.append(error)
    with pytest.raises(type(error)):
        await rig.writer.write(rig.lease, "books", [image(1)])
    assert len(rig.door.batches) == 1


@virtual
async def test_a_refusal_is_waited_out_and_shown_until_a_person_has_mended_it() -> None:
    rig = Rig()
    rig.door.errors.append(Refused("permission-denied", "the key is revoked"))
    waiting = asyncio.create_task(rig.writer.write(rig.lease, "books", [image(1)]))
    await asyncio.sleep(1)
    assert rig.writer.trouble is not None
    assert rig.writer.trouble.code == "permission-denied"
    await waiting
    assert now() == 2.0
    assert rig.writer.trouble is None


@virtual
async def test_a_batch_refused_for_one_record_is_halved_until_it_stands_alone() -> None:
    rig = Rig()
    rig.target.refuses = refuses_poison
    writes = [image(n, **({"poison": "batch"} if n == 5 else {})) for n in range(8)]
    written = await rig.writer.write(rig.lease, "books", writes)
    assert {n: error.code for n, error in written.rejected.items()} == {5: "target-rejected"}
    assert set(rig.payloads()) == {0, 1, 2, 3, 4, 6, 7}
    assert [5] in rig.door.ids


@virtual
async def test_a_record_that_the_store_names_is_refused_without_another_write() -> None:
    rig = Rig()
    rig.target.refuses = refuses_poison
    written = await rig.writer.write(
        rig.lease, "books", [image(1), image(2, poison="point"), image(3)]
    )
    assert list(written.rejected) == [2]
    assert len(rig.door.batches) == 1
    assert set(rig.payloads()) == {1, 3}


@virtual
async def test_a_refused_batch_is_no_trouble_of_the_store() -> None:
    rig = Rig()
    rig.door.errors.append(Rejected("target-rejected", "no"))
    await rig.writer.write(rig.lease, "books", [image(1)])
    assert (rig.writer.retries, rig.writer.trouble) == (0, None)


@virtual
async def test_patches_of_absent_points_are_counted() -> None:
    rig = Rig()
    written = await rig.writer.write(rig.lease, "books", [Patch(id=1, set={"a": 1}), Delete(2)])
    assert written.absent == 1


@virtual
async def test_nothing_to_write_asks_nobody() -> None:
    rig = Rig()
    await rig.writer.write(rig.lease, "books", [])
    assert rig.door.batches == []


@virtual
async def test_nothing_is_sent_under_a_lease_that_was_revoked() -> None:
    rig = Rig()
    asked: list[float] = []

    async def wipe() -> None:
        asked.append(now())

    rig.lease.revoke()
    with pytest.raises(Revoked):
        await rig.writer.write(rig.lease, "books", [image(1)])
    with pytest.raises(Revoked):
        await rig.writer.administer(rig.lease, wipe)
    assert (rig.door.batches, asked) == ([], [])
    assert rig.writer.guard.is_clear
    assert rig.writer.limit.taken == 0


@virtual
async def test_a_backoff_lasts_no_longer_than_its_lease() -> None:
    rig = Rig()
    rig.door.errors.append(Retryable("store-throttled", "slower", 30.0))
    waiting = asyncio.create_task(rig.writer.write(rig.lease, "books", [image(1)]))
    await asyncio.sleep(1)
    rig.lease.revoke()
    with pytest.raises(Revoked):
        await waiting
    assert now() == 1.0
    assert len(rig.door.batches) == 1


@virtual
async def test_a_place_given_to_a_write_that_gives_up_in_that_moment_is_free_again() -> None:
    rig = Rig(in_flight_max=1)
    rig.door.held = {1}
    first = asyncio.create_task(rig.writer.write(rig.lease, "books", [image(1)]))
    await asyncio.sleep(0)
    for turns in range(6):
        lease = rig.ownership.lease(Direction.FORWARD, Purpose.REPAIR, 0)
        second = asyncio.create_task(rig.writer.write(lease, "books", [image(2)]))
        await asyncio.sleep(0.1)
        rig.door.held = {2, 3}
        third = asyncio.create_task(rig.writer.write(rig.lease, "books", [image(3)]))
        rig.door.release(1)
        for _ in range(turns):
            await asyncio.sleep(0)
        second.cancel()
        lease.give_back()
        await asyncio.wait([first, second])
        rig.door.release()
        async with asyncio.timeout(60):
            await third
        assert rig.writer.limit.taken == 0
        rig.door.held = {1}
        first = asyncio.create_task(rig.writer.write(rig.lease, "books", [image(1)]))
        await asyncio.sleep(10)
    rig.door.release()
    await first


@virtual
async def test_a_throttled_store_gets_fewer_writes_at_once() -> None:
    rig = Rig()
    before = rig.writer.limit.now
    rig.door.errors.append(Retryable("store-throttled", "slower"))
    await rig.writer.write(rig.lease, "books", [image(1)])
    assert rig.writer.limit.now < before


@virtual
async def test_a_wipe_with_an_unknown_outcome_is_repeated_after_the_bound() -> None:
    rig = Rig(bound_s=5.0)
    asked: list[float] = []

    async def wipe() -> None:
        asked.append(now())
        if len(asked) == 1:
            raise UNKNOWN

    await rig.writer.administer(rig.lease, wipe)
    assert asked == [0.0, 5.0]


@virtual
async def test_a_cancelled_wipe_makes_every_write_wait_for_the_bound() -> None:
    rig = Rig(bound_s=5.0)

    async def wipe() -> None:
        await asyncio.sleep(60)

    waiting = asyncio.create_task(rig.writer.administer(rig.lease, wipe))
    await asyncio.sleep(1)
    waiting.cancel()
    await asyncio.wait([waiting])
    await rig.writer.write(rig.lease, "books", [image(1)])
    assert now() == 6.0


@virtual
async def test_a_wipe_with_an_unknown_outcome_holds_the_writes_of_others_too() -> None:
    rig = Rig(bound_s=5.0)
    errors = [UNKNOWN]

    async def wipe() -> None:
        if errors:
            raise errors.pop()

    wiping = asyncio.create_task(rig.writer.administer(rig.lease, wipe))
    await asyncio.sleep(1)
    await rig.writer.write(rig.lease, "books", [image(1)])
    assert [at for at, _ in rig.door.batches] == [5.0]
    await wiping


@virtual
async def test_a_wipe_waits_until_no_earlier_write_may_land() -> None:
    rig = Rig(bound_s=5.0)
    asked: list[float] = []

    async def wipe() -> None:
        asked.append(now())

    rig.writer.guard.suspect()
    await rig.writer.administer(rig.lease, wipe)
    assert asked == [5.0]


# -- what one request may hold -------------------------------------------------------------


def limited(rig: Rig, limits: Limits) -> None:
    """The target takes no more in one request."""
    rig.target.traits = msgspec.structs.replace(rig.target.traits, limits=limits)


@virtual
async def test_a_batch_is_cut_into_requests_that_the_store_takes() -> None:
    rig = Rig()
    limited(rig, Limits(records_max=3))
    await rig.writer.write(rig.lease, "books", [image(n) for n in range(8)])
    assert rig.door.ids == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert set(rig.payloads()) == set(range(8))


@virtual
async def test_what_became_of_each_request_is_told_as_of_one_batch() -> None:
    rig = Rig()
    limited(rig, Limits(records_max=2))
    rig.target.refuses = refuses_poison
    writes = [
        Patch(id=1, set={"a": 1}),
        image(2, poison="point"),
        image(3),
        image(4, poison="batch"),
        Patch(id=5, set={"a": 1}),
    ]
    written = await rig.writer.write(rig.lease, "books", writes)
    assert (set(written.rejected), written.absent) == ({2, 4}, 2)
    assert set(rig.payloads()) == {3}


@virtual
async def test_a_record_that_is_too_large_by_itself_goes_alone() -> None:
    rig = Rig()
    limited(rig, Limits(bytes_max=1000))
    writes = [image(1), image(2), image(3, text="x" * 5000), image(4)]
    await rig.writer.write(rig.lease, "books", writes)
    assert rig.door.ids == [[1, 2], [3], [4]]


# -- several collections -------------------------------------------------------------------


def two(rig: Rig) -> dict[str, list[Write]]:
    """Writes to two collections."""
    rig.target.create(msgspec.structs.replace(BOOKS, name="films"))
    return {"books": [image(1)], "films": [image(2)]}


@virtual
async def test_a_slow_collection_does_not_hold_up_another() -> None:
    rig = Rig()
    rig.door.takes_s = 5.0
    written = await rig.writer.write_each(rig.lease, two(rig))
    assert set(written) == {"books", "films"}
    assert now() == 5.0
    assert (set(rig.target.points("books")), set(rig.target.points("films"))) == ({1}, {2})


@virtual
async def test_writes_of_several_collections_that_are_cancelled_are_left_to_the_guard() -> None:
    rig = Rig(bound_s=5.0)
    rig.door.held = {1, 2}
    sent = asyncio.create_task(rig.writer.write_each(rig.lease, two(rig)))
    await asyncio.sleep(1)
    assert rig.writer.limit.taken == 2
    sent.cancel()
    await asyncio.wait([sent])
    assert sent.cancelled()
    assert (rig.writer.limit.taken, rig.writer.guard.left_s) == (0, 5.0)


@virtual
async def test_what_is_in_flight_is_answered_before_a_revoked_write_of_several_ends() -> None:
    rig = Rig(bound_s=5.0)
    rig.door.errors.append(AWAY)
    rig.door.held = {2}
    sent = asyncio.create_task(rig.writer.write_each(rig.lease, two(rig)))
    await asyncio.sleep(0.05)  # the one waits in its backoff, the other is on its way
    rig.lease.revoke()
    await asyncio.sleep(3)
    assert not sent.done()
    rig.door.release()
    with pytest.raises(Revoked):
        await sent
    assert now() == 3.05
    assert rig.writer.guard.is_clear
    assert [set(rig.target.points(name)) for name in ("books", "films")] == [set(), {2}]


@virtual
async def test_what_no_waiting_mends_in_one_collection_ends_the_others_at_once() -> None:
    rig = Rig(bound_s=5.0)
    rig.door.errors.append(Blocked("target-missing", "gone"))
    rig.door.held = {2}
    with pytest.raises(Blocked):
        await rig.writer.write_each(rig.lease, two(rig))
    assert rig.writer.limit.taken == 0
    assert not rig.writer.guard.is_clear
