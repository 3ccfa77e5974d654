"""The status: what is not known is null, and readiness tells the truth."""

from __future__ import annotations

import asyncio
import math

import msgspec
import pytest

from replicator import __version__
from replicator.codecs.events import encode
from replicator.errors import OwnershipUnknown, Refused
from replicator.metrics import Metrics
from replicator.model.command import Cutover, Pause
from replicator.model.phase import Direction, Phase
from replicator.model.status import BackfillStatus, LagStatus, RetentionStatus
from tests.migration.rig import World
from tests.stream.rig import patch, upsert, virtual


@virtual
async def test_before_anything_runs_there_is_no_status_to_give() -> None:
    world = World()
    with pytest.raises(Refused) as caught:
        await world.migration.status()
    assert caught.value.code == "phase-refused"


@virtual
async def test_what_is_not_known_at_the_beginning_is_null() -> None:
    world = World()
    world.log.away = True
    async with world.running(Phase.PLANNED) as migration:
        await asyncio.sleep(1)
        status = await migration.status()
        assert status.lag == LagStatus()
        assert (status.lag.records, status.lag.seconds) == (None, None)
        assert status.retention == RetentionStatus()
        assert status.backfill == BackfillStatus()
        assert (status.verify.at, status.verify.recall, status.fence) == (None, None, None)
        assert status.partitions == []
        assert "lag-unknown" in [blocker.code for blocker in status.blockers]
        shown = msgspec.json.decode(msgspec.json.encode(status))
        assert shown["lag"] == {"records": None, "seconds": None, "unknown_partitions": 0}


@virtual
async def test_an_unknown_lag_is_infinite_to_those_who_count() -> None:
    world = World()
    world.log.away = True
    async with world.running(Phase.PLANNED) as migration:
        metrics = Metrics("test", "0")
        metrics.show(await migration.status())
        labels = {"migration": "test"}
        for name in ("replicator_lag_records", "replicator_lag_seconds"):
            assert metrics.registry.get_sample_value(name, labels) == math.inf
        value = metrics.registry.get_sample_value(
            "replicator_retention_headroom_seconds", labels
        )
        assert value is not None
        assert math.isnan(value)


@virtual
async def test_a_migration_that_streams_shows_what_it_did() -> None:
    world = World()
    world.seed(*range(20))
    async with world.running() as migration:
        world.write(upsert(1, n=1), upsert(1, n=2))
        world.emit(patch(99, n=1))
        world.log.produce(b"films/1", None, partition=0)
        await world.until_applied()
        await asyncio.sleep(2)
        status = await migration.status()
        assert (status.name, status.version) == ("test", __version__)
        assert (status.phase, status.direction) == (Phase.STREAMING, Direction.FORWARD)
        assert status.application_may_write == "source"
        assert (status.stream.applied, status.stream.coalesced) == (3, 1)
        assert (status.stream.absent, status.stream.ignored) == (1, 1)
        assert (status.backfill.copied, status.backfill.estimated) == (20, 20)
        assert status.backfill.percent == 100.0
        assert status.lag == LagStatus(records=0, seconds=0.0)
        [row] = status.partitions
        assert (row.end, row.position, row.applied, row.committed) == (4, 4, 4, 4)
        assert status.ready
        assert status.not_ready == []


@virtual
async def test_a_store_that_is_away_makes_it_unready_and_says_why() -> None:
    world = World()
    async with world.running() as migration:
        world.target.away = True
        world.write(upsert(1))
        await asyncio.sleep(1)
        status = await migration.status()
        assert not status.ready
        assert status.stream.throttled is not None
        assert status.stream.retries > 0
        assert status.stream.in_flight == 1
        world.target.away = False
        await world.until_applied()
        assert (await migration.status()).ready


@virtual
async def test_a_broker_that_is_away_makes_it_unready_and_the_lag_null_in_time() -> None:
    world = World()
    async with world.running() as migration:
        world.log.away = True
        await asyncio.sleep(40)
        status = await migration.status()
        assert not status.ready
        assert (status.lag.records, status.lag.seconds) == (None, None)
        assert status.partitions[0].end is None
        world.log.away = False


@virtual
async def test_a_paused_migration_is_ready_and_nobody_reads_its_partitions() -> None:
    world = World()
    async with world.running() as migration:
        await migration.do(Pause())
        status = await migration.status()
        assert status.paused
        assert status.ready
        assert [row.status.value for row in status.partitions] == ["OK"]
        assert [row.applied for row in status.partitions] == [None]
        assert [row.committed for row in status.partitions] == [0]


@virtual
async def test_a_blocked_migration_names_its_reason() -> None:
    world = World()
    async with world.running() as migration:
        world.log.grow(2)
        await world.until(lambda: world.record.phase is Phase.BLOCKED)
        status = await migration.status()
        assert [blocker.code for blocker in status.not_ready] == ["partitions-changed"]
        assert not status.ready
        assert status.application_may_write == "source"


@virtual
async def test_while_fenced_nobody_may_write_and_afterwards_the_target_may() -> None:
    world = World()
    owners: list[str | None] = []

    async def look() -> None:
        owners.append((await world.migration.status()).application_may_write)

    world.hooks.work = dict.fromkeys(("before_fence", "after_fence", "after_switch"), look)
    async with world.running() as migration:
        await world.verify()
        await migration.do(Cutover())
        await look()
        assert owners == ["source", None, None, "target"]
        status = await migration.status()
        assert not status.can_cutover


@virtual
async def test_while_nobody_knows_the_owner_it_is_null() -> None:
    world = World()
    world.switch.errors.extend([Refused("switch-failed", "no")] * 9)
    async with world.running() as migration:
        await world.verify()
        with pytest.raises(OwnershipUnknown):
            await migration.do(Cutover())
        status = await migration.status()
        assert status.application_may_write is None
        assert [blocker.code for blocker in status.not_ready] == ["ownership-unknown"]


@virtual
async def test_a_plain_copy_has_no_lag_and_no_partitions() -> None:
    world = World(feed=False)
    world.seed(1)
    world.target.away = True
    async with world.running(Phase.PLANNED) as migration:
        await asyncio.sleep(1)
        status = await migration.status()
        assert (status.lag, status.partitions) == (LagStatus(), [])
        world.target.away = False


@virtual
async def test_fields_that_no_event_has_are_shown_by_name() -> None:
    world = World()
    async with world.running() as migration:
        key, value = encode(upsert(1))
        fields = msgspec.msgpack.decode(value) | {"vector": [1]}
        world.log.produce(key, msgspec.msgpack.encode(fields), partition=0)
        await world.until_applied()
        assert (await migration.status()).stream.unknown_fields == {"vector": 1}
