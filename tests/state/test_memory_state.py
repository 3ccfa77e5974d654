from __future__ import annotations

import asyncio

import pytest

from replicator.errors import Refused
from replicator.testing.memory_state import Dead, MemoryStateStore
from replicator.testing.state_conformance import P0, Reopen, StateConformance, entry, record


class TestMemoryState(StateConformance):
    @pytest.fixture
    def disk(self) -> MemoryStateStore:
        return MemoryStateStore()

    @pytest.fixture
    def beside(self, disk: MemoryStateStore) -> Reopen:
        async def beside() -> MemoryStateStore:
            disk.unlock()
            return disk.attach()

        return beside

    @pytest.fixture
    def reopen(self, disk: MemoryStateStore) -> Reopen:
        opened: list[MemoryStateStore] = []

        async def reopen() -> MemoryStateStore:
            if opened:
                await opened[-1].close()
            opened.append(disk.attach())
            return opened[-1]

        return reopen


async def test_a_dead_incarnation_changes_nothing() -> None:
    disk = MemoryStateStore()
    view = disk.attach()
    await view.commit({P0: 1}, {})
    view.detach()
    with pytest.raises(Dead):
        await view.commit({P0: 2}, {})
    with pytest.raises(Dead):
        await view.positions()
    assert await disk.positions() == {P0: 1}


@pytest.mark.parametrize(("steps", "landed"), [(0, False), (1, False), (2, True)])
async def test_a_call_can_die_before_or_after_its_effect(steps: int, landed: bool) -> None:
    disk = MemoryStateStore()
    view = disk.attach()
    call = asyncio.create_task(view.save(record(), entry()))
    for _ in range(steps):
        await asyncio.sleep(0)
    assert not call.done()
    view.detach()
    with pytest.raises(Dead):
        await call
    assert (await disk.load() is not None) is landed


async def test_one_incarnation_holds_the_state_until_it_dies() -> None:
    disk = MemoryStateStore()
    first = disk.attach()
    with pytest.raises(Refused) as refused:
        disk.attach()
    assert refused.value.code == "state-locked"
    first.detach()
    second = disk.attach()
    first.detach()
    with pytest.raises(Refused):
        disk.attach()
    await second.close()
    disk.attach()
