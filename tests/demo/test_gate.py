from __future__ import annotations

import asyncio

import pytest

from replicator.demo.gate import Gate, Route


async def test_the_fence_closes_only_when_the_write_under_way_is_done() -> None:
    gate = Gate()
    finish = asyncio.Event()
    entered = asyncio.Event()

    async def write() -> None:
        async with gate.admitted():
            entered.set()
            await finish.wait()

    writing = asyncio.create_task(write())
    await entered.wait()
    closing = asyncio.create_task(gate.close_fence(60))
    await asyncio.sleep(0)
    assert gate.fenced
    assert not closing.done()
    finish.set()
    await closing
    await writing


async def test_a_write_waits_at_the_fence_and_sees_the_route_of_after_the_switch() -> None:
    gate = Gate()
    await gate.close_fence(60)

    async def route_seen() -> Route:
        async with gate.admitted() as route:
            return route

    waiting = asyncio.create_task(route_seen())
    await asyncio.sleep(0)
    assert await gate.switch("target", 1)
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.open_fence()
    assert await waiting == Route("target", 1)


async def test_the_fence_opens_by_itself_when_nobody_opens_it() -> None:
    gate = Gate()
    await gate.close_fence(0.01)
    async with asyncio.timeout(5), gate.admitted():
        assert gate.opened_by_deadline == 1


async def test_a_write_that_does_not_end_makes_closing_fail_at_its_deadline() -> None:
    gate = Gate()
    async with gate.admitted():
        with pytest.raises(TimeoutError):
            await gate.close_fence(0.01)


async def test_a_switch_of_an_older_epoch_changes_nothing() -> None:
    gate = Gate()
    assert await gate.switch("target", 2)
    assert not await gate.switch("source", 1)
    assert gate.route == Route("target", 2)


async def test_opening_the_fence_does_not_end_a_rest() -> None:
    gate = Gate()
    await gate.rest()
    await gate.close_fence(60)
    gate.open_fence()
    resting = asyncio.create_task(gate.at_work())
    await asyncio.sleep(0)
    assert not resting.done()
    gate.work()
    await resting


async def test_a_close_that_arrives_after_the_open_of_its_attempt_is_not_obeyed() -> None:
    """It was sent before, and its sender has given up on it: nobody would open again."""
    gate = Gate()
    assert await gate.close_fence(60, "first")
    gate.open_fence("first")
    assert not await gate.close_fence(60, "first")
    assert not gate.fenced
    assert await gate.close_fence(60, "second")
    assert gate.fenced


async def test_a_close_that_waits_while_its_attempt_is_opened_says_that_it_is_not_closed() -> (
    None
):
    gate = Gate()
    async with gate.admitted():
        closing = asyncio.create_task(gate.close_fence(60, "first"))
        await asyncio.sleep(0)
        gate.open_fence("first")
    assert not await closing
    assert not gate.fenced


async def test_attempts_that_are_over_are_remembered_within_bounds() -> None:
    gate = Gate()
    for number in range(150):
        gate.open_fence(str(number))
    assert not await gate.close_fence(60, "149")
    assert len(gate._over) == 100
