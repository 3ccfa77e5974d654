"""Two sources that lead to one target collection: equal ids, and nothing crosses over."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from replicator.errors import Blocked
from replicator.migration.copy.backfill import prepare_target
from replicator.migration.evidence.standing import Standing
from replicator.migration.preflight.checks import run_checks
from replicator.migration.preflight.plan import make_plan
from replicator.migration.preflight.shared import Targets
from replicator.model.command import Cutover, Repair, Revert, Verify
from replicator.model.event import ChangeEvent, Key
from replicator.model.finding import CheckFinding, Severity
from replicator.model.phase import Direction, Phase
from replicator.model.point import Payload, Point, PointId, ScopedId, Vectors
from replicator.model.schema import CollectionSchema, IdKinds, VectorSchema
from replicator.model.scopes import Scopes
from replicator.model.search import Hit, Query
from replicator.model.write import Delete, Patch, Upsert, Write
from replicator.settings.transform import CollectionSettings
from replicator.stream.ids import IdMap
from replicator.stream.ownership import Ownership, Purpose
from replicator.stream.reading import Reader
from replicator.stream.writing import Writer
from tests.migration.lives import killed
from tests.migration.rig import World
from tests.stream.rig import BOOKS, METRICS, delete, patch, point, upsert, vector, virtual

TABLES = [
    CollectionSettings(source=name, target="all", ids="mapped") for name in ("books", "films")
]


def world_of(*, films: CollectionSchema = BOOKS, **settings: Any) -> World:
    world = World(**settings)
    world.source.create(msgspec.structs.replace(films, name="films"))
    world.settings = msgspec.structs.replace(world.settings, collections=list(TABLES))
    world.restart()
    return world


def seed(world: World, *numbers: int) -> None:
    """The same ids in both sources."""
    for name in ("books", "films"):
        for number in numbers:
            world.source.write(name, Upsert(point(number, of=name)))


def of(name: str, event: ChangeEvent) -> ChangeEvent:
    return msgspec.structs.replace(event, key=Key(name, event.key.id))


def write(world: World, name: str, event: ChangeEvent) -> None:
    """The application changes a source, and emits."""
    change: Write = Delete(event.key.id)
    if event.payload:
        change = Upsert(Point(event.key.id, event.vectors, event.payload))
    elif event.set:
        change = Patch(id=event.key.id, set=event.set)
    world.source.write(name, change)
    world.emit(of(name, event))


def place_of(name: str, point_id: PointId) -> PointId:
    at_target = msgspec.structs.replace(BOOKS, ids=IdKinds.UINT64 | IdKinds.UUID)
    return IdMap("mapped", at_target, name).to_target(Key(name, point_id))


def held(world: World) -> dict[tuple[str, Any], Payload]:
    """What the target holds, by where it says it comes from."""
    points = world.target.points("all").values()
    found = {
        (p.payload["_source_collection"], p.payload["_source_id"]): {
            name: value for name, value in p.payload.items() if not name.startswith("_")
        }
        for p in points
    }
    assert len(found) == len(points)
    return found


async def found(world: World) -> list[tuple[str, str]]:
    """Key and kind of each finding."""
    kinds = [(x.key.shown, x.kind.value) async for x in world.migration.findings()]
    return sorted(kinds)


async def checked(world: World) -> list[CheckFinding]:
    return await run_checks(
        world.settings,
        source=Reader(world.source.attach()),
        target=Reader(world.target.attach()),
        feed=world.log.attach(),
        standing=Standing(None, {world.log.name(0): 0}),
    )


@virtual
async def test_equal_ids_of_two_sources_are_two_points_and_both_streams_find_theirs() -> None:
    world = world_of()
    seed(world, 1, 2, 3)
    async with world.running():
        write(world, "books", upsert(1, of="books", n=1))
        write(world, "films", patch(1, n=2))
        write(world, "books", delete(2))
        write(world, "films", delete(3))
        await world.until_applied()
        report = await world.verify()
        assert (report.missing, report.extra, report.different) == (0, 0, 0)
        assert report.compared == 8
        assert report.counts == {"books": [2, None], "films": [2, None]}
        assert report.together == {"all": [4, 4]}
        assert report.warnings == []
    assert held(world) == {
        ("books", 1): {"of": "books", "n": 1},
        ("books", 3): {"of": "books"},
        ("films", 1): {"of": "films", "n": 2},
        ("films", 2): {"of": "films"},
    }


@virtual
@pytest.mark.parametrize("level", ["full", "sample"])
async def test_what_is_extra_is_extra_once_and_of_the_collection_it_came_from(
    level: Any,
) -> None:
    world = world_of()
    seed(world, 1, 2)
    stray = "11111111-1111-4111-8111-111111111111"
    async with world.running() as migration:
        films_2 = world.target.points("all")[place_of("films", 2)]
        world.source.write("films", Delete(2))  # and nobody emits
        liar = {"_source_id": 1, "_source_collection": "books"}
        world.target.write("all", Upsert(Point(stray, films_2.vectors, liar)))
        report = await world.verify(level)
        assert (report.missing, report.extra, report.different) == (0, 2, 0)
        assert await found(world) == [
            (f'books/_target:"{stray}"', "extra"),
            ("films/2", "extra"),
        ]
        assert await migration.do(Repair()) == 2
        assert (await world.verify()).equal
    assert held(world).keys() == {("books", 1), ("books", 2), ("films", 1)}


@virtual
async def test_a_count_alone_compares_all_sources_of_a_target_with_it() -> None:
    world = world_of()
    seed(world, 1, 2)
    async with world.running():
        world.target.write("all", Delete(place_of("books", 1)))
        report = await world.verify("counts")
    assert report.together == {"all": [4, 3]}
    assert report.warnings == [
        "books, films: the source counts 4 points in all, the target 3 in all, which they share"
    ]


@virtual
async def test_what_a_store_counts_and_does_not_show_is_named_once() -> None:
    world = world_of()
    seed(world, 1, 2)
    async with world.running():
        count = world.door._store.count

        async def one_more(collection: str) -> int | None:
            return (await count(collection) or 0) + 1

        world.door.count = one_more  # type: ignore[attr-defined]
        report = await world.verify()
    assert report.equal
    assert "books, films: the target counts 5 points, and showed 4" in report.warnings


@virtual
async def test_a_repair_of_one_collection_leaves_the_other_alone() -> None:
    world = world_of()
    seed(world, 1, 2)
    async with world.running() as migration:
        for name in ("books", "films"):
            world.target.write("all", Patch(id=place_of(name, 1), set={"of": "spoilt"}))
        assert await migration.do(Repair(collection="films")) == 2
    assert held(world)["films", 1] == {"of": "films"}
    assert held(world)["books", 1] == {"of": "spoilt"}


@virtual
async def test_a_patch_never_drops_where_a_point_came_from() -> None:
    world = world_of()
    seed(world, 1)
    async with world.running():
        fields = ("_source_id", "_source_collection")
        event = msgspec.structs.replace(patch(1, n=1), unset=fields)
        world.emit(of("films", event))
        await world.until_applied()
    assert held(world)["films", 1] == {"of": "films", "n": 1}


@virtual
async def test_a_target_that_reads_lag_and_that_cannot_patch_folds_each_into_its_own() -> None:
    world = world_of(target_staleness_s=2.0)
    traits = msgspec.structs.replace(world.target.traits, patches=False)
    world.target.traits = traits
    world.restart()
    seed(world, 1)
    async with world.running():
        for n, name in enumerate(("books", "films")):
            write(world, name, upsert(1, of=name, n=n))
            write(world, name, patch(1, m=n))
        await world.until_applied()
    assert held(world) == {
        ("books", 1): {"of": "books", "n": 0, "m": 0},
        ("films", 1): {"of": "films", "n": 1, "m": 1},
    }


@virtual
async def test_an_id_that_would_name_a_point_of_the_target_is_a_dead_letter() -> None:
    world = world_of()
    world.settings = msgspec.structs.replace(
        world.settings,
        feed=msgspec.structs.replace(world.settings.feed, ids="string"),
    )
    world.restart()
    seed(world, 1)
    async with world.running():
        victim = f'_target:"{place_of("films", 1)}"'
        for event in (upsert(1, of="books"), delete(1)):
            world.emit(msgspec.structs.replace(event, key=Key("books", victim)))
        await world.until_applied()
        codes = [letter.code for letter in await world.state.letters()]
    assert codes == ["id-invalid"] * 2
    assert held(world).keys() == {("books", 1), ("films", 1)}


# -- cutover and back ----------------------------------------------------------------------


@virtual
async def test_behind_a_cutover_each_source_takes_its_own_and_a_revert_loses_nothing() -> None:
    world = world_of()
    seed(world, 1, 2)
    async with world.running() as migration:
        await world.verify()
        write(world, "books", upsert(1, of="books", n=1))
        await migration.do(Cutover(timeout_s=60))
        assert world.record.direction is Direction.REVERSE
        epoch = world.record.epoch
        for name, event in (
            ("films", upsert(2, of="films", n=2)),
            ("books", delete(2)),
            ("films", upsert(9, of="films")),
            ("books", patch(1, m=1)),
        ):
            world.emit(msgspec.structs.replace(of(name, event), epoch=epoch))
        await world.until_applied()
        await migration.do(Revert(timeout_s=60))
        assert world.record.direction is Direction.FORWARD
    assert {n: p.payload for n, p in world.source.points("books").items()} == {
        1: {"of": "books", "n": 1, "m": 1}
    }
    assert {n: p.payload for n, p in world.source.points("films").items()} == {
        1: {"of": "films"},
        2: {"of": "films", "n": 2},
        9: {"of": "films"},
    }


@virtual
async def test_a_plain_copy_puts_both_together_and_proves_it() -> None:
    world = world_of(feed=False)
    seed(world, *range(70))
    async with world.running(Phase.COMPLETE):
        pass
    assert len(held(world)) == 140


# -- wiping --------------------------------------------------------------------------------


async def prepare(world: World, *, wipe: list[str], resumed: bool) -> None:
    target = Reader(world.target.attach())
    writer = Writer(
        target.store, connector="memory", settings=world.settings.stream, metrics=METRICS
    )
    with Ownership().lease(Direction.FORWARD, Purpose.PREPARE, 0) as lease:
        await prepare_target(
            world.settings,
            source=Reader(world.source.attach()),
            target=target,
            writer=writer,
            lease=lease,
            capture_id="ours",
            wipe=wipe,
            resumed=resumed,
            state=world.state,
        )


@virtual
async def test_a_target_is_wiped_once_and_never_of_what_another_route_has_copied() -> None:
    world = world_of()
    seed(world, 1)
    world.target.create(msgspec.structs.replace(BOOKS, name="all", capture_id="another"))
    world.target.write("all", Upsert(point(5)))
    with pytest.raises(Blocked):
        await prepare(world, wipe=[], resumed=False)
    await prepare(world, wipe=["all"], resumed=False)
    assert world.target.points("all") == {}
    world.target.write("all", Upsert(point(6)))
    for resumed in (True, False):  # the process died between the copies, or before the cut
        await prepare(world, wipe=["all"], resumed=resumed)
        assert world.target.points("all").keys() == {6}


@virtual
async def test_a_death_between_the_two_copies_costs_neither() -> None:
    world = world_of()
    seed(world, *range(120))
    world.target.create(msgspec.structs.replace(BOOKS, name="all", capture_id="another"))
    world.target.write("all", Upsert(point(5)))
    world.migration.parts = msgspec.structs.replace(world.migration.parts, wipe=["all"])
    world.door.held = {place_of("films", number) for number in range(120)}
    async with killed(world, Phase.BACKFILL):
        await world.until(lambda: len(world.target.points("all")) == 120)
    assert {name for name, _ in held(world)} == {"books"}
    world.migration.parts = msgspec.structs.replace(world.migration.parts, wipe=["all"])
    books = {each: id(at) for each, at in world.target.points("all").items()}
    async with world.running():
        assert (await world.verify()).equal
    assert len(held(world)) == 240
    now = world.target.points("all")
    assert all(id(now[each]) == at for each, at in books.items()), "it was copied again"


# -- what both ask of the target -----------------------------------------------------------


@virtual
@pytest.mark.parametrize(
    ("films", "differs"),
    [
        ({"vectors": {"v": VectorSchema(size=3)}}, "vectors.v.size: 2 and 3"),
        ({"vectors": {"w": VectorSchema(size=2)}}, "vectors: ['v'] and ['w']"),
        ({"indexes": {"of": "text"}}, "indexes.of.type: keyword and text"),
        ({"scoped": True}, "scopes: False and True"),
    ],
)
async def test_tables_that_ask_for_different_collections_are_refused_by_what_differs(
    films: dict[str, Any], differs: str
) -> None:
    world = world_of(films=msgspec.structs.replace(BOOKS, **films))
    world.source.collections["books"].schema = msgspec.structs.replace(
        BOOKS, indexes={"of": "keyword"}
    )
    if films.get("scoped"):
        scoped = msgspec.structs.replace(TABLES[1], scopes="*")
        world.settings = msgspec.structs.replace(
            world.settings, collections=[TABLES[0], scoped]
        )
    blocking = [each for each in await checked(world) if each.severity is Severity.BLOCKS]
    assert [each.code for each in blocking] == ["target-shared"]
    assert blocking[0].subject == "collections/films"
    assert differs in blocking[0].message
    with pytest.raises(Blocked) as caught:
        await prepare(world, wipe=[], resumed=False)
    assert caught.value.code == "target-shared"
    assert world.target.collections == {}


@virtual
async def test_payload_indexes_of_all_sources_come_together() -> None:
    world = world_of(films=msgspec.structs.replace(BOOKS, indexes={"of": "keyword"}))
    world.source.collections["books"].schema = msgspec.structs.replace(
        BOOKS, indexes={"n": "integer", "of": "keyword"}
    )
    assert {each.severity for each in await checked(world)} == {Severity.INFORMS}
    await prepare(world, wipe=[], resumed=False)
    made = world.target.collections["all"].schema
    assert made.indexes == {"n": "integer", "of": "keyword"}


@virtual
async def test_a_plan_shows_a_shared_target_with_what_all_its_tables_ask_for() -> None:
    world = world_of(films=msgspec.structs.replace(BOOKS, indexes={"of": "keyword"}))
    seed(world, 1, 2)
    plan = await make_plan(
        world.settings,
        source=Reader(world.source.attach()),
        target=Reader(world.target.attach()),
    )
    for each in plan.collections:
        assert (each.ids, each.creates_target, each.points) == ("mapped", True, 2)
        assert each.indexes == {"of": "keyword"}
        assert each.losses == []


@virtual
async def test_one_collection_under_two_names_is_no_way_around_it() -> None:
    world = world_of()
    tables = [
        msgspec.structs.replace(TABLES[0], ids="auto"),
        msgspec.structs.replace(TABLES[1], ids="auto", target="alias"),
    ]
    world.settings = msgspec.structs.replace(world.settings, collections=tables)
    for name in ("all", "alias"):
        world.target.create(msgspec.structs.replace(BOOKS, name=name, physical="all"))
    blocking = [each for each in await checked(world) if each.severity is Severity.BLOCKS]
    assert [each.code for each in blocking] == ["target-shared"]
    assert "'alias' and 'all' are one collection" in blocking[0].message


@virtual
async def test_a_target_that_holds_no_uuid_is_refused() -> None:
    world = world_of()
    rules = msgspec.structs.replace(world.target.traits.ids, kinds=IdKinds.UINT64)
    world.target.traits = msgspec.structs.replace(world.target.traits, ids=rules)
    blocking = [each for each in await checked(world) if each.severity is Severity.BLOCKS]
    assert [each.code for each in blocking] == ["id-invalid"]


# -- scopes --------------------------------------------------------------------------------


@virtual
async def test_of_a_shared_target_with_scopes_each_reads_its_own_scopes_alone() -> None:
    scoped = msgspec.structs.replace(BOOKS, scoped=True)
    world = world_of(films=scoped)
    del world.source.collections["books"]
    world.source.create(scoped)
    tables = [
        msgspec.structs.replace(table, scopes=scopes)
        for table, scopes in zip(TABLES, (["a", "b"], ["b"]), strict=True)
    ]
    world.settings = msgspec.structs.replace(world.settings, collections=tables)
    world.restart()
    for name in ("books", "films"):
        for scope in ("a", "b"):
            world.source.write(name, Upsert(Point(ScopedId(scope, 1), {"v": vector()}, {})))
    async with world.running():
        atlas = world.migration.engine.atlas
        assert atlas is not None
        assert atlas.scopes_of_all(["books", "films"]) == Scopes(frozenset({"a", "b"}))
        assert len(world.target.points("all")) == 3
        # Of films only the scope `b` travels: what lies in `a` is of somebody else.
        ids = IdMap("mapped", scoped_target(), "films")
        theirs = ids.to_target(Key("films", ScopedId("a", 7)))
        fields = {"_source_id": 7, "_source_collection": "films"}
        world.target.write("all", Upsert(Point(theirs, {"v": vector()}, fields)))
        ours = ids.to_target(Key("films", ScopedId("b", 7)))
        world.target.write("all", Upsert(Point(ours, {"v": vector()}, fields)))
        report = await world.verify()
        assert (report.missing, report.extra, report.different) == (0, 1, 0)
        assert await world.migration.do(Repair()) == 1
    assert theirs in world.target.points("all")
    assert ours not in world.target.points("all")


def scoped_target() -> CollectionSchema:
    kinds = IdKinds.UINT64 | IdKinds.UUID
    return msgspec.structs.replace(BOOKS, scoped=True, ids=kinds)


# -- search --------------------------------------------------------------------------------


@virtual
async def test_neighbours_of_another_collection_are_no_answer_where_a_search_can_filter() -> (
    None
):
    world = world_of()
    for place, name in enumerate(("films", "books")):
        for number in range(30):
            near: Vectors = {"v": vector(number + place / 2)}  # the books are nearer
            world.source.write(name, Upsert(Point(number, near, {})))
    world.target.traits = msgspec.structs.replace(world.target.traits, filters=True)
    async with world.running() as migration:
        search, asked = world.door._store.search, []

        async def filtering(collection: str, query: Query) -> list[Hit]:
            """The store in memory refuses a filter: this one does what it says."""
            asked.append(query.filter)
            [condition] = (query.filter or {})["must"]
            bare = msgspec.structs.replace(query, filter=None, limit=1000)
            points = world.target.points(collection)
            return [
                hit
                for hit in await search(collection, bare)
                if points[hit.id].payload[condition["key"]] == condition["match"]["value"]
            ][: query.limit]

        world.door.search = filtering  # type: ignore[attr-defined]
        query = Query(vector=vector(), using="v", limit=3, collection="films")
        report = await migration.do(Verify(queries=[query]))
    assert report.search["films"]["recall"] == 1.0
    assert report.search["films"]["overlap"] == 1.0
    assert {str(each) for each in asked} == {
        str({"must": [{"key": "_source_collection", "match": {"value": "films"}}]})
    }


@virtual
async def test_where_no_search_tells_them_apart_recall_is_not_measured_and_says_why() -> None:
    world = world_of()
    seed(world, *range(30))
    async with world.running() as migration:
        query = Query(vector=vector(), using="v", limit=3, collection="films")
        report = await migration.do(Verify(queries=[query]))
    assert "recall" not in report.search["films"]
    assert (
        "points of books lie in the same collection"
        in report.search["films"]["not_compared"]["v"]
    )


@virtual
async def test_what_is_not_as_planned_at_a_shared_target_is_told_once() -> None:
    indexed = msgspec.structs.replace(BOOKS, indexes={"n": "integer"})
    world = world_of(films=indexed)
    tables = [
        msgspec.structs.replace(table, accept=accept)
        for table, accept in zip(TABLES, ([], ["loss-index"]), strict=True)
    ]
    world.settings = msgspec.structs.replace(world.settings, collections=tables)
    world.restart()
    async with world.running():
        made = world.target.collections["all"]
        made.schema = msgspec.structs.replace(made.schema, indexes={}, made=True)
        report = await world.verify()
    assert list(report.configuration) == ["books"]
    assert report.misconfigured == 1, "only one of them accepts it"


def test_what_another_table_asks_for_is_no_stranger_to_a_shared_target() -> None:
    index = {"indexes": {"text": "text"}, "index_options": {"text": {"tokenizer": "word"}}}
    plain = msgspec.structs.replace(BOOKS, name="all", native_kind="qdrant")
    indexed = msgspec.structs.replace(plain, **index)
    alone, both = Targets(), Targets()
    for targets in (alone, both):
        targets.add(TABLES[0], plain, plain, indexed)
    both.add(TABLES[1], indexed, indexed, indexed)
    assert [finding.code for finding in alone.losses()] != []
    assert both.losses() == []


@virtual
async def test_a_point_that_names_another_collection_differs_and_is_no_stray() -> None:
    world = world_of()
    seed(world, 1)
    async with world.running() as migration:
        lie = Patch(id=place_of("films", 1), set={"_source_collection": "books"})
        world.target.write("all", lie)
        report = await world.verify()
        assert (report.missing, report.extra, report.different) == (0, 0, 1)
        assert await found(world) == [("films/1", "different")]
        assert await migration.do(Repair()) == 1
    assert held(world).keys() == {("books", 1), ("films", 1)}
