"""The preflight: a finding appears with its cause and goes away with it; nothing is changed."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest

from replicator.errors import CODES, Refused, Unavailable, is_permanent
from replicator.migration.evidence.standing import Standing
from replicator.migration.preflight.checks import preflight_or_refuse, run_checks
from replicator.model.event import Key
from replicator.model.finding import CheckFinding, Severity
from replicator.model.phase import Phase
from replicator.model.point import Point, PointId
from replicator.model.position import Partition
from replicator.model.record import Capture, MigrationRecord
from replicator.model.schema import CollectionSchema, Distance, IdKinds, VectorSchema
from replicator.model.write import Upsert
from replicator.settings.transform import TransformSettings
from replicator.settings.units import Duration
from replicator.stream.reading import Reader
from replicator.stream.transform import FieldTransform
from replicator.testing.memory_feed import MemoryFeed
from replicator.testing.memory_store import MEMORY
from tests.migration.rig import World
from tests.stream.rig import BOOKS, point, upsert, virtual

AT_TARGET = msgspec.structs.replace(BOOKS, name="books_v2")


async def check(
    world: World,
    *,
    record: MigrationRecord | None = None,
    wipe: list[str] | None = None,
    feed: Any = None,
    parts: list[object] | None = None,
    positions: dict[Partition, int] | None = None,
) -> list[CheckFinding]:
    source, target = parts or [world.source.attach(), world.target.attach()]
    return await run_checks(
        world.settings,
        source=Reader(source),  # type: ignore[arg-type]
        target=Reader(target),  # type: ignore[arg-type]
        feed=feed or world.log.attach(),
        standing=Standing(record, positions or {world.log.name(0): 0}),
        wipe=wipe or [],
    )


def shown(findings: list[CheckFinding]) -> list[tuple[str, str]]:
    return [(finding.severity.value, finding.code) for finding in findings]


@virtual
async def test_two_stores_that_fit_have_no_findings_and_are_not_changed() -> None:
    world = World()
    world.seed(*range(20))
    assert await check(world) == []
    assert world.target.collections == {}
    assert len(world.source.points("books")) == 20


@virtual
async def test_a_source_collection_that_does_not_exist_blocks() -> None:
    world = World()
    del world.source.collections["books"]
    [finding] = await check(world)
    assert (finding.severity, finding.code, finding.subject) == (
        Severity.BLOCKS,
        "source-missing",
        "collections/books",
    )
    assert finding.hint == CODES["source-missing"]


@virtual
async def test_a_store_that_is_away_is_a_finding_and_no_exception() -> None:
    world = World()
    world.source.away = True
    [finding] = await check(world)
    assert finding.severity is Severity.BLOCKS
    assert finding.code in CODES


@virtual
async def test_a_settle_shorter_than_the_sources_staleness_blocks() -> None:
    world = World(staleness_s=0.6)
    assert await check(world) == []
    feed = msgspec.structs.replace(world.settings.feed, settle=Duration(0.5))
    world.settings = msgspec.structs.replace(world.settings, feed=feed)
    assert shown(await check(world)) == [("blocks", "settle-short")]


@virtual
async def test_a_plain_copy_has_no_settle_to_be_short() -> None:
    world = World(staleness_s=0.6, feed=False)
    assert await check(world) == []


@pytest.mark.parametrize("feed", [True, False])
@virtual
async def test_a_feed_needs_a_source_that_others_may_write(feed: bool) -> None:
    world = World(feed=feed)
    world.source.traits = msgspec.structs.replace(MEMORY, live=False)
    assert shown(await check(world)) == ([("blocks", "unsupported")] if feed else [])


@pytest.mark.parametrize("feed", [True, False])
@virtual
async def test_a_feed_needs_a_target_that_is_written_change_by_change(feed: bool) -> None:
    world = World(feed=feed)
    world.target.traits = msgspec.structs.replace(MEMORY, follows=False)
    assert shown(await check(world)) == ([("blocks", "unsupported")] if feed else [])


@virtual
async def test_a_target_with_points_of_unknown_origin_blocks() -> None:
    world = World()
    world.target.create(AT_TARGET)
    assert await check(world) == []
    world.target.write("books_v2", Upsert(point(1)))
    [finding] = await check(world)
    assert (finding.code, finding.subject) == ("target-not-empty", "target/books_v2")
    assert await check(world, wipe=["books_v2"]) == []
    assert shown(await check(world, wipe=["books"])) == [("blocks", "target-not-empty")]


def captured(capture_id: str) -> MigrationRecord:
    return MigrationRecord(
        name="test",
        phase=Phase.STREAMING,
        capture=Capture(id=capture_id, positions={}, partitions=1, at=0.0),
    )


@pytest.mark.parametrize(
    ("mark", "ours", "is_blocked"),
    [
        ("a", "a", False),
        ("a", "b", True),
        (None, "a", False),  # a store that keeps no mark, in a migration under way
        (None, None, True),
    ],
)
@virtual
async def test_a_target_that_holds_points_must_carry_our_mark(
    mark: str | None, ours: str | None, is_blocked: bool
) -> None:
    world = World()
    world.target.create(msgspec.structs.replace(AT_TARGET, capture_id=mark))
    world.target.write("books_v2", Upsert(point(1)))
    record = None if ours is None else captured(ours)
    expected = [("blocks", "target-not-empty")] if is_blocked else []
    assert shown(await check(world, record=record)) == expected


@virtual
async def test_a_target_of_another_dimension_blocks() -> None:
    world = World()
    other = {"v": VectorSchema(size=3, distance=Distance.DOT)}
    world.target.create(msgspec.structs.replace(AT_TARGET, vectors=other))
    assert shown(await check(world)) == [("blocks", "target-incompatible")]


@virtual
async def test_what_the_way_back_loses_warns() -> None:
    world = World(transform=TransformSettings(drop=["secret"]))
    [finding] = await check(world)
    assert (finding.severity, finding.code) == (Severity.WARNS, "not-invertible")
    assert "secret" in finding.message


@virtual
async def test_rows_that_cannot_be_carried_warn_once_for_each_reason() -> None:
    world = World(transform=TransformSettings(cast={"year": "int"}))
    world.seed(1, 2, year="soon")
    world.seed(3, year="1999")
    world.source.write(
        "books", Upsert(Point(4, {"v": struct.pack("<2f", float("nan"), 0)}, {}))
    )
    findings = [x for x in await check(world) if x.subject == "source/books"]
    assert sorted(shown(findings)) == [
        ("warns", "transform-failed"),
        ("warns", "vector-not-finite"),
    ]
    [transform] = [x for x in findings if x.code == "transform-failed"]
    assert transform.message.startswith("2 of the sampled rows")


@virtual
async def test_two_keys_that_give_one_target_id_block() -> None:
    world = World()
    world.seed(1, 2, 3)

    def one_id(_transform: FieldTransform, _key: Key) -> PointId:
        return 7

    with pytest.MonkeyPatch.context() as patching:
        # The mapping of ids is injective; only a defect, or a store that folds ids, gets here.
        patching.setattr(FieldTransform, "target_id", one_id)
        [finding] = await check(world)
    assert (finding.severity, finding.code) == (Severity.BLOCKS, "id-collision")
    assert finding.message.startswith("2 of")


class KeepsFor(MemoryFeed):
    """A feed that drops records after a while."""

    kept_s: float | None = None

    async def retention_s(self) -> float | None:
        return self.kept_s


@pytest.mark.parametrize(
    ("kept_s", "severity"), [(0.9, "blocks"), (2.9, "warns"), (3.1, None), (None, None)]
)
@virtual
async def test_a_log_that_keeps_records_no_longer_than_the_copy_takes_is_too_short(
    kept_s: float | None, severity: str | None
) -> None:
    world = World()
    world.seed(*range(2000))  # a cautious second
    feed = KeepsFor(world.log)
    feed.kept_s = kept_s
    expected = [] if severity is None else [(severity, "retention-short")]
    assert shown(await check(world, feed=feed)) == expected


class ChecksItself:
    """A store that has something to say about itself, twice."""

    def __init__(self, store: object, *findings: CheckFinding) -> None:
        self._store = store
        self._findings = findings

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def check(self) -> list[CheckFinding]:
        return list(self._findings)


@virtual
async def test_what_the_parts_say_of_themselves_comes_once_and_what_blocks_comes_first() -> (
    None
):
    world = World()
    fact = CheckFinding(Severity.INFORMS, "unsupported", "stores", "a fact")
    bad = CheckFinding(Severity.BLOCKS, "permission-denied", "target", "no")
    weigh = CheckFinding(Severity.WARNS, "unsupported", "stores", "a thing to weigh")
    source = ChecksItself(world.source.attach(), fact, weigh)
    target = ChecksItself(world.target.attach(), fact, bad)
    assert await check(world, parts=[source, target]) == [bad, weigh, fact]


@virtual
async def test_every_collection_is_looked_at_though_one_is_missing() -> None:
    world = World()
    world.target.create(AT_TARGET)
    world.target.write("books_v2", Upsert(point(1)))
    [books] = world.settings.collections
    films = msgspec.structs.replace(books, source="films", target="films_v2")
    world.settings = msgspec.structs.replace(world.settings, collections=[films, books])
    assert sorted(shown(await check(world))) == [
        ("blocks", "source-missing"),
        ("blocks", "target-not-empty"),
    ]


def test_the_target_of_these_tests_is_the_sources_twin() -> None:
    assert CollectionSchema(name="books", vectors=BOOKS.vectors, ids=IdKinds.UINT64) == BOOKS


@virtual
async def test_a_loss_blocks_until_the_collection_accepts_it() -> None:
    world = World()
    world.seed(1)
    other = {"v": VectorSchema(size=2, distance=Distance.EUCLID)}
    world.target.create(msgspec.structs.replace(AT_TARGET, vectors=other))
    assert ("blocks", "loss-distance") in shown(await check(world))
    [books] = world.settings.collections
    accepting = msgspec.structs.replace(books, accept=["loss-distance"])
    world.settings = msgspec.structs.replace(world.settings, collections=[accepting])
    assert shown(await check(world)) == [("informs", "loss-distance")]


@virtual
async def test_options_of_a_store_that_has_none_are_refused() -> None:
    world = World()
    world.seed(1)
    [books] = world.settings.collections
    wishing = msgspec.structs.replace(books, target_options={"shard_number": 2})
    world.settings = msgspec.structs.replace(world.settings, collections=[wishing])
    assert shown(await check(world)) == [("blocks", "config-invalid")]


@virtual
async def test_source_and_target_that_are_one_collection_are_refused() -> None:
    world = World()
    world.seed(1)
    world.settings = msgspec.structs.replace(world.settings, target=world.settings.source)

    class Behind:
        """A store where every name leads to one collection."""

        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def describe(self, name: str) -> CollectionSchema:
            return msgspec.structs.replace(BOOKS, name=name, physical="books")

    parts: list[object] = [Behind(world.source.attach()), Behind(world.source.attach())]
    assert ("blocks", "target-is-source") in shown(await check(world, parts=parts))


@virtual
async def test_an_aborted_copy_is_nobodys() -> None:
    world = World()
    world.target.create(msgspec.structs.replace(AT_TARGET, capture_id="a"))
    world.target.write("books_v2", Upsert(point(1)))
    record = captured("a")
    assert await check(world, record=record) == []
    record.phase = Phase.ABORTED
    assert shown(await check(world, record=record)) == [("blocks", "target-not-empty")]


@virtual
async def test_a_migration_that_is_over_has_nothing_to_refuse() -> None:
    world = World()
    world.target.create(msgspec.structs.replace(AT_TARGET, capture_id="another"))
    world.target.write("books_v2", Upsert(point(1)))
    record = captured("a")
    record.phase = Phase.COMPLETE
    assert await check(world, record=record) == []


@virtual
async def test_a_target_that_vanished_under_a_migration_blocks() -> None:
    world = World()
    assert shown(await check(world, record=captured("a"))) == [("blocks", "target-missing")]


@pytest.mark.parametrize(("partitions", "code"), [(2, "partitions-changed"), (1, None)])
@virtual
async def test_a_log_of_other_partitions_than_were_captured_blocks(
    partitions: int, code: str | None
) -> None:
    world = World(partitions=partitions)
    world.target.create(msgspec.structs.replace(AT_TARGET, capture_id="a"))
    expected = [] if code is None else [("blocks", code)]
    assert shown(await check(world, record=captured("a"))) == expected


@virtual
async def test_a_log_that_begins_after_our_position_blocks() -> None:
    world = World()
    world.target.create(msgspec.structs.replace(AT_TARGET, capture_id="a"))
    for number in range(5):
        world.emit(upsert(number))
    world.log.truncate(0, 3)
    for position, expected in ((2, [("blocks", "log-truncated")]), (3, [])):
        found = await check(
            world, record=captured("a"), positions={world.log.name(0): position}
        )
        assert shown(found) == expected


@virtual
async def test_a_vector_that_does_not_exist_is_named_though_the_target_is_not_made_yet() -> (
    None
):
    world = World(transform=TransformSettings(vectors={"v": "v", "title": "text"}))
    [finding] = await check(world)
    assert (finding.severity, finding.code) == (Severity.BLOCKS, "transform-invalid")
    assert "title" in finding.message


@virtual
async def test_ids_are_mapped_for_the_target_that_will_be_made() -> None:
    world = World()
    texts = msgspec.structs.replace(BOOKS, ids=IdKinds.STRING)
    world.source.collections["books"].schema = texts
    world.source.write("books", Upsert(Point("a text", point(1).vectors, {})))
    assert ("informs", "id-invalid") in shown(await check(world))
    [books] = world.settings.collections
    kept = msgspec.structs.replace(books, ids="keep")
    world.settings = msgspec.structs.replace(world.settings, collections=[kept])
    assert ("blocks", "id-invalid") in shown(await check(world)), "not one row can travel"
    world.target.create(AT_TARGET)
    assert ("blocks", "id-invalid") in shown(await check(world))


@virtual
async def test_rows_are_measured_against_the_target_where_the_source_says_nothing() -> None:
    world = World()
    world.source.collections["books"].schema = msgspec.structs.replace(BOOKS, vectors=None)
    world.seed(1, 2)
    other = {"v": VectorSchema(size=3, distance=Distance.DOT)}
    world.target.create(msgspec.structs.replace(AT_TARGET, vectors=other))
    assert ("blocks", "vector-dimension") in shown(await check(world))


@virtual
async def test_the_preflight_refuses_what_lasts_and_waits_for_what_is_away() -> None:
    world = World()
    world.seed(1)

    async def preflight() -> list[CheckFinding]:
        return await preflight_or_refuse(
            world.settings,
            source=Reader(world.source.attach()),
            target=Reader(world.target.attach()),
            feed=world.log.attach(),
        )

    assert await preflight() == []
    world.source.away = True
    with pytest.raises(Unavailable) as away:
        await preflight()
    assert away.value.code == "source-unavailable"
    world.source.away = False
    del world.source.collections["books"]
    with pytest.raises(Refused) as refused:
        await preflight()
    assert refused.value.code == "source-missing"
    assert is_permanent(refused.value)
    assert not is_permanent(away.value)


@virtual
async def test_nothing_is_captured_or_written_before_the_preflight() -> None:
    world = World()
    world.target.create(AT_TARGET)
    world.target.write("books_v2", Upsert(point(7)))
    del world.source.collections["books"]
    with pytest.raises(Refused):
        async with world.running(Phase.BACKFILL):
            pass
    assert world.record.phase is Phase.PLANNED
    assert 7 in world.target.points("books_v2")
    assert "BACKFILL" not in await world.steps()
    last = (await world.entries())[-1]
    assert (last.step, last.evidence) == ("check", {"code": "source-missing"})


@virtual
async def test_where_a_store_may_filter_otherwise_the_check_says_so() -> None:
    spec: dict[str, Any] = {"must": [{"key": "n", "range": {"gt": 1 << 60}}]}
    world = World(transform=TransformSettings(filter=spec))
    world.seed(1, n=1)
    assert ("warns", "filter-differs") in shown(await check(world))
    plain: dict[str, Any] = {"must": [{"key": "n", "range": {"gt": 1}}]}
    world = World(transform=TransformSettings(filter=plain))
    world.seed(1, n=5)
    assert ("warns", "filter-differs") not in shown(await check(world))


@virtual
async def test_vectors_that_no_collection_of_the_target_can_have_block() -> None:
    world = World()
    world.seed(1)
    short = msgspec.structs.replace(MEMORY.vectors, dimensions_max=1)
    world.target.traits = msgspec.structs.replace(MEMORY, vectors=short)
    parts = [world.source.attach(), Blind(world.target.attach())]
    found = await check(world, parts=parts)
    assert shown(found) == [("blocks", "unsupported")]
    assert "2 dimensions" in found[0].message


class Blind:
    """A store that foresees nothing."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name == "foresee":
            raise AttributeError(name)
        return getattr(self._store, name)


@virtual
async def test_a_filter_samples_the_rows_that_it_lets_through() -> None:
    world = World(
        transform=TransformSettings(
            filter={"must": [{"key": "kind", "match": {"value": "paper"}}]},
            cast={"year": "int"},
        )
    )
    world.seed(*range(3000), kind="cloth", year="many")
    world.seed(*range(3000, 3005), kind="paper", year="none")
    # They are the last of each chunk, behind more rows than a sample has.
    assert ("warns", "transform-failed") in shown(await check(world))
