"""A generation finds what is missing, extra and different, and nothing that has an excuse."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from replicator.errors import Refused, Rejected
from replicator.migration.evidence.verified import Verified
from replicator.migration.preflight.planned import read_plans
from replicator.model.command import Level
from replicator.model.finding import Difference
from replicator.model.phase import Phase
from replicator.model.point import Point, PointId
from replicator.model.schema import Distance, Precision, VectorSchema
from replicator.model.write import Delete, Patch, Upsert
from replicator.ports.store import Page
from replicator.settings.transform import TransformSettings
from tests.migration.rig import World
from tests.stream.rig import BOOKS, PAPERBACKS, Images, key, point, upsert, virtual


async def found(world: World) -> dict[object, str]:
    return {x.key.id: x.kind.value async for x in world.migration.findings()}


@virtual
async def test_equal_stores_have_no_findings_and_the_gate_hears_of_it() -> None:
    world = World()
    world.seed(*range(120))
    async with world.running() as migration:
        report = await world.verify()
        assert report.equal
        assert report.compared == 240  # both ways
        assert report.counts == {"books": [120, 120]}
        status = await migration.status()
        assert (status.verify.generation, status.verify.phase) == (1, "done")
        assert status.verify.at is not None
        assert await migration.report() == report


@virtual
async def test_what_is_missing_extra_or_different_is_found_with_its_kind() -> None:
    world = World()
    world.seed(1, 2, 3, year=1999)
    async with world.running() as migration:
        world.spoil(Delete(1))
        world.spoil(Patch(id=2, set={"year": 2000}))
        world.spoil(Upsert(point(4)))
        report = await world.verify()
        assert (report.missing, report.different, report.extra) == (1, 1, 1)
        assert await found(world) == {1: "missing", 2: "different", 4: "extra"}
        [different] = [x for x in report.findings if x.kind is Difference.DIFFERENT]
        assert "payload.year" in different.detail
        assert "1999" not in different.detail
        status = await migration.status()
        assert [blocker.code for blocker in status.blockers] == ["findings"]


@virtual
async def test_a_later_generation_forgets_what_is_healed_and_keeps_what_is_not() -> None:
    world = World()
    world.seed(1, 2)
    async with world.running():
        world.spoil(Delete(1))
        world.spoil(Delete(2))
        await world.verify()
        world.spoil(Upsert(point(1)))
        await asyncio.sleep(1)
        report = await world.verify()
        assert report.generation == 2
        assert await found(world) == {2: "missing"}


@virtual
async def test_a_clock_that_is_set_back_meanwhile_loses_no_finding() -> None:
    world = World(verify={"rate_max": 50.0})
    world.seed(*range(100))
    async with world.running():
        world.spoil(Delete(7))
        verifying = asyncio.create_task(world.verify())
        await asyncio.sleep(0.5)
        true = world.wall
        world.wall = lambda: true() - 3600
        assert (await verifying).missing == 1
        assert await found(world) == {7: "missing"}


@virtual
async def test_a_hot_key_is_no_finding() -> None:
    world = World(target_staleness_s=0.0)
    world.seed(1, 2)
    async with world.running():
        world.door.takes_s = 0.2

        async def keep_writing() -> None:
            number = 0
            while True:
                number += 1
                world.write(upsert(1, n=number))
                await asyncio.sleep(0.1)

        writing = asyncio.create_task(keep_writing())
        world.spoil(Delete(2))
        report = await world.verify()
        writing.cancel()
        assert [x.key.id for x in report.findings] == [2]
        assert report.hot == 1


@virtual
async def test_a_key_written_between_the_reads_of_both_stores_is_no_finding() -> None:
    world = World()
    world.seed(1)
    async with world.running():
        world.door.held = {1}
        world.write(upsert(1, n=2))
        verifying = asyncio.create_task(world.verify())
        await asyncio.sleep(20)
        assert not verifying.done()
        world.door.release()
        assert (await verifying).equal


@virtual
async def test_the_positions_kept_are_those_at_the_beginning() -> None:
    world = World(verify={"rate_max": 20.0})
    world.seed(*range(60))
    async with world.running():
        world.write(upsert(1, n=1))
        await world.until_applied()
        verifying = asyncio.create_task(world.verify())
        await asyncio.sleep(1)
        world.write(upsert(2, n=2), upsert(3, n=3))
        await world.until_applied()
        assert (await verifying).equal
        raw = await world.state.get("verified")
        assert raw is not None
        assert msgspec.json.decode(raw, type=Verified).positions == {world.first: 1}


@pytest.mark.parametrize("level", ["counts", "sample"])
@virtual
async def test_only_a_full_generation_counts_for_the_gate(level: Level) -> None:
    world = World()
    world.seed(*range(60))
    async with world.running() as migration:
        await world.verify(level)
        status = await migration.status()
        assert (status.verify.at, status.verify.generation) == (None, 0)
        assert [blocker.code for blocker in status.blockers] == ["not-verified"]


@virtual
async def test_counts_compare_nothing_but_counts() -> None:
    world = World()
    world.seed(1, 2)
    async with world.running():
        world.spoil(Delete(1))
        report = await world.verify("counts")
        assert (report.compared, report.counts) == (0, {"books": [2, 1]})


@virtual
async def test_a_sample_reads_about_as_many_rows_as_it_says() -> None:
    world = World(verify={"sample": 80})
    world.seed(*range(800))
    async with world.running():
        report = await world.verify("sample")
        assert 0 < report.compared <= 200


@virtual
async def test_a_sample_does_not_declare_healed_what_it_did_not_read() -> None:
    world = World(verify={"sample": 8})
    world.seed(*range(400))
    async with world.running():
        for number in range(20):
            world.spoil(Delete(number))
        await world.verify()
        assert len(await found(world)) == 20
        await world.verify("sample")
        assert len(await found(world)) == 20


@virtual
async def test_suspects_beyond_the_bound_are_settled_before_more_are_read() -> None:
    world = World(verify={"suspects_max": 3})
    world.seed(*range(20))
    async with world.running():
        for number in range(20):
            world.spoil(Delete(number))
        world.images.fetched.clear()
        report = await world.verify()
        assert max(len(ids) for _, ids in world.images.fetched) == 3
        assert report.missing == 20
        assert len(await found(world)) == 20


@virtual
async def test_rows_that_cannot_be_carried_are_counted_and_are_no_findings() -> None:
    world = World()
    world.seed(1)
    broken = Point(2, {"v": struct.pack("<2f", float("nan"), 0)}, {})
    world.source.write("books", Upsert(broken))
    async with world.running():
        report = await world.verify()
        assert report.equal
        assert report.uncarried == 1
        [entry] = [x for x in await world.entries() if x.step == "verify"]
        assert entry.message == "equal, but for 1 rows in the dead letters"


@virtual
async def test_a_target_point_that_cannot_be_read_is_different() -> None:
    world = World()
    world.seed(1, 2)
    async with world.running():
        bad = Rejected("store-bug", "a vector without an end", "vectors.v")

        async def fetch(collection: str, ids: list[int]) -> dict[int, Point]:
            if 1 in ids:
                raise bad
            return {i: world.target.points(collection)[i] for i in ids}

        world.door.fetch = fetch  # type: ignore[attr-defined]
        report = await world.verify()
        assert [(x.key.id, x.detail) for x in report.findings] == [(1, bad.message)]


@virtual
async def test_a_source_row_that_cannot_be_read_is_not_extra_at_the_target() -> None:
    world = World()
    world.seed(1)
    async with world.running():
        world.images.unreadable[1] = Rejected("field-type", "no point", "payload")
        report = await world.verify()
        assert report.extra == 0


@virtual
async def test_a_filter_leaves_points_out_and_finds_those_that_should_be_gone() -> None:
    world = World(transform=TransformSettings(filter=PAPERBACKS))
    world.seed(1, kind="paper")
    world.seed(2, kind="cloth")
    async with world.running():
        assert (await world.verify()).equal
        world.spoil(Upsert(point(2, kind="cloth")))
        report = await world.verify()
        assert (report.extra, report.missing) == (1, 0)


@virtual
async def test_of_a_narrow_filter_the_rest_of_the_source_is_not_read() -> None:
    world = World(transform=TransformSettings(filter=PAPERBACKS))
    world.seed(*range(300), kind="cloth")
    world.seed(*range(300, 320), kind="paper")
    shown = count_shown(world.images)
    async with world.running() as migration:
        status = await migration.status()
        assert status.backfill.estimated == status.backfill.copied
        assert 20 <= status.backfill.copied < 150  # the store may give more than matches
        shown.clear()
        world.spoil(Upsert(point(7, kind="cloth")))  # at the source too, where it is no match
        world.spoil(Delete(310))
        report = await world.verify()
        assert len(shown) < 150
        assert await found(world) == {7: "extra", 310: "missing"}
        assert report.warnings == []
        assert (await migration.status()).verify.expected == report.compared


def count_shown(images: Images) -> list[PointId]:
    """What the source's scans give from now on."""
    shown: list[PointId] = []

    def counted(scan: Callable[..., AsyncIterator[Page]]) -> Callable[..., AsyncIterator[Page]]:
        async def counting(*args: Any, **named: Any) -> AsyncIterator[Page]:
            async for page in scan(*args, **named):
                shown.extend(each.id for each in page.points)
                yield page

        return counting

    for name in ("scan", "scan_where"):
        setattr(images, name, counted(getattr(images, name)))
    return shown


@virtual
async def test_both_stores_are_asked_for_what_their_replicas_agree_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.seed(*range(10))
    async with world.running():
        careful = Images(world.source.attach())
        monkeypatch.setattr(world.images, "consistent", lambda: careful, raising=False)
        shown, plainly = count_shown(careful), count_shown(world.images)
        target = Images(world.target.attach())
        monkeypatch.setattr(world.door, "consistent", lambda: target, raising=False)
        world.spoil(Delete(3))
        await world.verify()
        assert (len(shown), plainly) == (10, [])
        assert target.fetched
        assert careful.fetched  # a suspect, looked at again
        assert world.images.fetched == []


@virtual
async def test_a_store_that_is_away_is_waited_for_and_the_scan_goes_on() -> None:
    world = World(verify={"rate_max": 50.0, "page_rows": 5})
    world.seed(*range(200))
    async with world.running() as migration:
        world.spoil(Delete(7))
        verifying = asyncio.create_task(world.verify())
        await asyncio.sleep(0.25)  # some pages into the first chunk
        world.source.away = world.target.away = True
        await asyncio.sleep(30)
        assert not verifying.done()
        assert (await migration.status()).not_ready != []
        world.source.away = world.target.away = False
        report = await verifying
        assert [x.key.id for x in report.findings] == [7]
        assert report.compared == 399  # no page twice


@virtual
async def test_what_is_found_is_kept_whole_and_the_report_shows_the_first() -> None:
    world = World()
    world.seed(*range(130))
    async with world.running():
        for number in range(130):
            world.spoil(Delete(number))
        report = await world.verify()
        assert (report.missing, len(report.findings)) == (130, 100)
        assert len(await found(world)) == 130


@virtual
async def test_a_verification_that_is_stopped_is_no_generation() -> None:
    world = World(verify={"rate_max": 10.0})
    world.seed(*range(200))
    async with world.running() as migration:
        verifying = asyncio.create_task(world.verify())
        await asyncio.sleep(1)
        migration.request_drain()
        with pytest.raises(Refused):
            await verifying
        assert migration.verification.phase == "idle"
        assert migration.verification.generation == 0
        assert await world.state.get("verified") is None


@virtual
async def test_nothing_is_verified_before_the_migration_streams() -> None:
    world = World()
    world.target.away = True
    async with world.running(Phase.PLANNED):
        with pytest.raises(Refused) as caught:
            await world.verify()
        assert caught.value.code == "phase-refused"
        world.target.away = False


@virtual
async def test_a_restart_remembers_the_last_full_generation() -> None:
    world = World()
    world.seed(1)
    async with world.running():
        await world.verify()
    world.restart()
    async with world.running() as migration:
        status = await migration.status()
        assert status.verify.generation == 1
        assert status.can_cutover
        assert key(1) is not None


@virtual
async def test_a_target_that_is_not_configured_as_planned_is_not_equal() -> None:
    world = World()
    world.seed(1)
    async with world.running() as migration:
        assert (await world.verify()).equal
        assert (await migration.status()).verify.configuration == 0
        plans = await read_plans(world.state)
        assert plans["books_v2"].vectors == BOOKS.vectors
        changed = VectorSchema(size=2, distance=Distance.EUCLID)
        held = world.target.collections["books_v2"]
        held.schema = msgspec.structs.replace(
            held.schema, vectors={**(held.schema.vectors or {}), "v": changed}
        )
        report = await world.verify("counts")
        assert [each.code for each in report.configuration["books"]] == ["loss-distance"]
        assert not report.equal
        assert (await migration.status()).verify.configuration == report.misconfigured == 1
        # The source may change as it likes: what counts is what was planned.
        held.schema = msgspec.structs.replace(held.schema, vectors=BOOKS.vectors)
        at_source = world.source.collections["books"]
        at_source.schema = msgspec.structs.replace(
            at_source.schema, vectors={**(BOOKS.vectors or {}), "v": changed}
        )
        assert (await world.verify("counts")).equal


@virtual
async def test_a_source_that_keeps_less_than_the_target_is_no_difference() -> None:
    half = {"v": VectorSchema(size=2, distance=Distance.DOT, precision=Precision.FLOAT16)}
    for precision, findings in ((Precision.FLOAT16, 0), (Precision.FLOAT32, 1)):
        world = World()
        world.seed(1)
        if precision is Precision.FLOAT16:
            held = world.source.collections["books"]
            held.schema = msgspec.structs.replace(held.schema, vectors=half)
        world.target.create(msgspec.structs.replace(BOOKS, name="books_v2"))
        # An event brought the whole vector; the source gives back what it keeps of it.
        whole = Point(1, {"v": struct.pack("<2f", 0.1, 0.3)}, {"n": 1})
        kept = Point(1, {"v": struct.pack("<2f", 0.099975586, 0.30004883)}, {"n": 1})
        async with world.running():
            world.source.write("books", Upsert(kept))
            world.spoil(Upsert(whole))
            assert (await world.verify()).different == findings
