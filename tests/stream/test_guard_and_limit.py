"""What holds writes back: an unknown outcome for its bound, a store that asks for less."""

from __future__ import annotations

import asyncio

from replicator.stream.guard import WriteGuard
from replicator.stream.limit import ConcurrencyLimit
from tests.stream.rig import now, virtual


@virtual
async def test_nothing_is_suspected_at_first() -> None:
    guard = WriteGuard(5.0)
    await guard.clear()
    assert now() == 0.0


@virtual
async def test_a_suspected_write_holds_everything_for_the_bound() -> None:
    guard = WriteGuard(5.0)
    guard.suspect()
    assert not guard.is_clear
    await guard.clear()
    assert now() == 5.0
    assert guard.is_clear


@virtual
async def test_a_second_suspicion_is_waited_out_by_who_waits_for_the_first() -> None:
    guard = WriteGuard(5.0)
    guard.suspect()
    waiting = asyncio.create_task(guard.clear())
    await asyncio.sleep(3.0)
    guard.suspect()
    await waiting
    assert now() == 8.0


@virtual
async def test_the_limit_never_starts_more_than_its_maximum() -> None:
    limit = ConcurrencyLimit(2)
    await limit.wait()
    await limit.wait()
    third = asyncio.create_task(limit.wait())
    await asyncio.sleep(1)
    assert not third.done()
    limit.give()
    await third
    assert limit.taken == 2


@virtual
async def test_one_who_gives_up_waiting_passes_the_place_on() -> None:
    limit = ConcurrencyLimit(1)
    await limit.wait()
    gone = asyncio.create_task(limit.wait())
    stays = asyncio.create_task(limit.wait())
    await asyncio.sleep(0)
    limit.give()  # the place is meant for the first of them
    gone.cancel()
    await stays
    assert gone.cancelled()
    assert limit.taken == 1


def test_good_answers_raise_the_limit_by_one_for_each_limits_worth_up_to_the_maximum() -> None:
    limit = ConcurrencyLimit(6)
    for _ in range(5):
        limit.answered(0.01)
    assert limit.now == 5
    for _ in range(100):
        limit.answered(0.01)
    assert limit.now == 6


def test_a_refusal_halves_the_limit_and_leaves_one() -> None:
    limit = ConcurrencyLimit(8)
    limit.refused()
    assert limit.now == 2
    for _ in range(9):
        limit.refused()
    assert limit.now == 1


def test_a_store_that_queues_gets_fewer() -> None:
    limit = ConcurrencyLimit(8)
    limit.answered(0.01)
    before = limit.now
    for _ in range(6):
        limit.answered(0.1)
    assert limit.now < before


def test_a_store_that_became_slower_for_good_is_not_punished_for_ever() -> None:
    limit = ConcurrencyLimit(8)
    limit.answered(0.01)
    for _ in range(400):
        limit.answered(0.1)
    assert limit.now == 8


def test_a_lower_maximum_is_in_force_at_once() -> None:
    limit = ConcurrencyLimit(8)
    limit.maximum = 2
    assert limit.now == 2


@virtual
async def test_a_limit_that_rises_wakes_one_who_waits() -> None:
    limit = ConcurrencyLimit(8)
    for _ in range(4):
        await limit.wait()
    fifth = asyncio.create_task(limit.wait())
    await asyncio.sleep(0)
    for _ in range(5):
        limit.answered(0.01)
    await fifth
    assert limit.taken == 5
