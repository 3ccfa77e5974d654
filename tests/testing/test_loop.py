"""The virtual-time loop."""

from __future__ import annotations

import asyncio
import time
from random import Random

import pytest

from replicator.testing.loop import Deadlock, Stalled, VirtualLoop, run_virtual, virtual_loop


def test_an_hour_takes_no_time() -> None:
    async def main() -> float:
        started = asyncio.get_running_loop().time()
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time() - started

    began = time.monotonic()
    assert run_virtual(main()) == pytest.approx(3600)
    assert time.monotonic() - began < 1


def test_timers_fire_in_their_order() -> None:
    seen: list[float] = []

    async def after(delay: float) -> None:
        await asyncio.sleep(delay)
        seen.append(delay)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for delay in (0.3, 100.0, 0.1, 2.0):
                group.create_task(after(delay))

    run_virtual(main())
    assert seen == [0.1, 0.3, 2.0, 100.0]


def test_a_timeout_ends_a_wait_that_would_be_longer() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.sleep(50)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(5)


def test_a_wait_for_nothing_is_a_deadlock() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run_virtual(main())


def test_a_run_over_its_virtual_time_is_stalled() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(1)

    with pytest.raises(Stalled):
        run_virtual(main(), loop=VirtualLoop(limit_s=10))


def test_a_run_that_spins_without_time_is_stalled() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Stalled):
        run_virtual(main(), loop=VirtualLoop(steps_max=1000))


def order_of(seed: int | None) -> list[int]:
    seen: list[int] = []

    async def note(number: int) -> None:
        seen.append(number)

    async def main() -> None:
        await asyncio.gather(*(note(number) for number in range(8)))

    shuffle = None if seed is None else Random(seed)
    run_virtual(main(), loop=VirtualLoop(shuffle=shuffle))
    return seen


def test_interleavings_come_from_the_seed() -> None:
    assert order_of(None) == list(range(8))
    assert order_of(1) == order_of(1)
    assert len({tuple(order_of(seed)) for seed in range(10)}) > 5


def test_an_interrupt_comes_at_its_step() -> None:
    at: list[int] = []

    async def main() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    with virtual_loop() as loop:
        loop.interrupt(10, lambda: at.append(loop.steps))
        loop.run_until_complete(main())
    assert at == [10]


def test_the_wall_clock_follows_the_loop() -> None:
    async def main() -> None:
        await asyncio.sleep(60)

    with virtual_loop(VirtualLoop(epoch_s=1000.0)) as loop:
        loop.run_until_complete(main())
        assert loop.wall() == pytest.approx(1060)


def test_threads_are_refused() -> None:
    async def main() -> None:
        await asyncio.to_thread(int)

    with pytest.raises(RuntimeError, match="no threads"):
        run_virtual(main())
