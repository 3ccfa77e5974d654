"""What a process is willing to go on with: the same plan, and the log that was captured."""

from __future__ import annotations

import msgspec
import pytest

from replicator.errors import Refused
from replicator.model.command import Resume
from replicator.model.phase import Phase
from tests.migration.lives import killed
from tests.migration.rig import World
from tests.stream.rig import upsert, virtual


@virtual
async def test_another_plan_is_refused_and_the_first_one_stays_in_force() -> None:
    world = World()
    async with world.running():
        pass
    world.restart()
    same, parts = world.migration, world.migration.parts
    world.restart()
    world.migration.parts = msgspec.structs.replace(parts, fingerprint="another")
    with pytest.raises(Refused) as caught:
        await world.migration.run()
    assert caught.value.code == "plan-changed"
    world.migration = same
    async with world.running():
        assert world.record.fingerprint == parts.fingerprint


@virtual
async def test_a_log_that_lost_our_position_keeps_the_migration_blocked() -> None:
    world = World()
    async with killed(world):
        world.write(upsert(1))
        await world.until_applied()
    world.emit(upsert(2), upsert(3), upsert(4))
    world.log.truncate(0, 3)
    async with world.running(Phase.BLOCKED) as migration:
        assert world.record.reason_code == "log-truncated"
        with pytest.raises(Refused) as caught:
            await migration.do(Resume())
        assert caught.value.code == "log-truncated"
        assert world.record.phase is Phase.BLOCKED
        assert "STREAMING" not in (await world.steps())[-1:]


@virtual
async def test_a_topic_with_other_partitions_keeps_the_migration_blocked() -> None:
    world = World()
    async with world.running() as migration:
        world.log.grow(2)
        await world.until(lambda: world.record.phase is Phase.BLOCKED)
        assert world.record.reason_code == "partitions-changed"
        with pytest.raises(Refused) as caught:
            await migration.do(Resume())
        assert caught.value.code == "partitions-changed"
        assert world.record.phase is Phase.BLOCKED
