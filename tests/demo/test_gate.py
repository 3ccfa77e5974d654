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
