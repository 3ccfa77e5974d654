"""The rate of bulk work and what it tells; and what can be changed while it runs."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from replicator.errors import Refused
from replicator.migration.copy.pace import Pace
from replicator.migration.process.tuning import TUNABLE
from replicator.model.command import Pause, Resume, Tune
from tests.migration.rig import World
from tests.stream.rig import now, upsert, virtual


@virtual
async def test_without_a_limit_nothing_waits() -> None:
    pace = Pace(0.0)
    for _ in range(10):
        await pace.rows(1000)
    assert now() == 0.0


@virtual
async def test_rows_come_no_faster_than_the_limit_over_all_readers() -> None:
    pace = Pace(100.0)

    async def read() -> None:
        for _ in range(5):
            await pace.rows(50)

    await asyncio.gather(read(), read())
    assert now() == pytest.approx(4.5)  # the last of ten pages starts when nine have passed


@virtual
async def test_time_that_nobody_used_is_not_made_up_for() -> None:
    pace = Pace(100.0)
    await pace.rows(100)
    await asyncio.sleep(60)
    await pace.rows(100)
    await pace.rows(100)
    assert now() == pytest.approx(61)


@virtual
async def test_rate_percent_and_remaining_time_are_those_of_the_last_seconds() -> None:
    pace = Pace(0.0)
    pace.progress.estimated = 1000
    for _ in range(10):
        await pace.rows(30)
        pace.progress.copied += 30
        await asyncio.sleep(1)
    status = pace.status()
    assert status.rate_per_s == pytest.approx(30)
    assert status.percent == pytest.approx(30)
    assert status.eta_s == pytest.approx(700 / 30)


@virtual
async def test_what_is_remembered_does_not_grow_while_nobody_asks() -> None:
    pace = Pace(0.0)
    for _ in range(20_000):
        await pace.rows(500)
        await asyncio.sleep(0.01)
    assert len(pace._seen) <= 110
    assert pace.status().rate_per_s == pytest.approx(50_000, rel=0.05)


@virtual
async def test_a_source_that_grew_meanwhile_is_copied_to_100_percent_and_no_further() -> None:
    pace = Pace(0.0)
    pace.progress.estimated = 100
    pace.progress.copied = 130
    status = pace.status()
    assert (status.percent, status.estimated) == (100.0, 130)


@virtual
async def test_a_rate_that_is_not_known_is_null_and_so_is_the_remaining_time() -> None:
    pace = Pace(0.0)
    status = pace.status()
    assert (status.rate_per_s, status.percent, status.eta_s) == (None, None, None)
    pace.progress.estimated = 10
    await pace.rows(5)
    await asyncio.sleep(60)
    status = pace.status()
    assert (status.rate_per_s, status.percent, status.eta_s) == (None, 0.0, None)


@virtual
async def test_more_rows_than_were_estimated_are_a_hundred_percent() -> None:
    pace = Pace(0.0)
    pace.progress.estimated, pace.progress.copied = 10, 12
    assert pace.status().percent == 100.0
    pace.progress.estimated = pace.progress.copied = 0
    assert pace.status().percent == 100.0


@virtual
async def test_tuning_shows_every_tunable_and_nothing_else() -> None:
    world = World()
    async with world.running() as migration:
        assert tuple(cast("dict[str, str]", await migration.do(Tune()))) == TUNABLE


@virtual
async def test_tuning_takes_effect_on_what_runs() -> None:
    world = World()
    async with world.running() as migration:
        shown = await migration.do(
            Tune(
                {
                    "stream.batch_records": "1",
                    "stream.linger": "250ms",
                    "stream.batch_bytes": "2KiB",
                    "stream.in_flight_max": "2",
                    "backfill.rate_max": "12.5",
                }
            )
        )
        assert shown == {
            "backfill.rate_max": "12.5",
            "stream.batch_bytes": "2KiB",
            "stream.batch_records": "1",
            "stream.in_flight_max": "2",
            "stream.linger": "250ms",
        }
        engine = migration.engine
        assert {writer.limit.now for writer in engine.writers.values()} == {2}
        assert engine.pace.rate_max == 12.5
        world.door.takes_s = 1.0
        world.write(*(upsert(n) for n in range(6)))
        await world.until_applied()
        assert all(len(ids) == 1 for ids in world.door.ids)
        assert world.door.most == 2


@virtual
async def test_tuning_outlives_a_pause() -> None:
    world = World()
    async with world.running() as migration:
        await migration.do(Tune({"stream.batch_records": "1"}))
        await migration.do(Pause())
        world.write(*(upsert(n) for n in range(3)))
        await migration.do(Resume())
        await world.until_applied()
        assert all(len(ids) == 1 for ids in world.door.ids)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("stream.version_window", "1"),
        ("stream.batch_records", "many"),
        ("stream.batch_records", "0"),
        ("stream.in_flight_max", "-1"),
        ("stream.batch_bytes", "0B"),
        ("stream.linger", "10"),
        ("backfill.rate_max", "-1"),
        ("backfill.rate_max", "nan"),
        ("backfill.rate_max", "inf"),
    ],
)
@virtual
async def test_a_change_that_makes_no_sense_is_refused_and_nothing_is_changed(
    name: str, text: str
) -> None:
    world = World()
    async with world.running() as migration:
        before = await migration.do(Tune())
        with pytest.raises(Refused) as caught:
            await migration.do(Tune({"stream.batch_records": "7", name: text}))
        assert caught.value.code == "bad-request"
        assert await migration.do(Tune()) == before


@virtual
async def test_zero_lifts_the_rate_and_the_linger() -> None:
    world = World()
    async with world.running() as migration:
        shown = await migration.do(Tune({"backfill.rate_max": "0", "stream.linger": "0s"}))
        assert (shown["backfill.rate_max"], shown["stream.linger"]) == ("0.0", "0s")
