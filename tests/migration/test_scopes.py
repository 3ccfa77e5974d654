"""Migrations of collections with scopes, and what is refused before one begins."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from replicator.errors import Blocked, Refused
from replicator.migration.evidence.standing import Standing
from replicator.migration.preflight.checks import run_checks
from replicator.migration.preflight.plan import make_plan
from replicator.migration.preflight.routes import draw_atlas
from replicator.model.command import Repair
from replicator.model.event import ChangeEvent, Key
from replicator.model.finding import Severity
from replicator.model.point import Point, ScopedId
from replicator.model.schema import CollectionSchema
from replicator.model.scopes import Scopes
from replicator.model.write import Upsert
from replicator.settings.feeds import NoFeedSettings
from replicator.stream.embedding import Embeddings
from replicator.stream.patience import Patience
from replicator.stream.reading import Reader
from tests.migration.rig import World
from tests.stream.rig import BOOKS, point, upsert, virtual

SCOPED = msgspec.structs.replace(BOOKS, scoped=True)


def world_of(
    schema: CollectionSchema = SCOPED, *, scopes: Any = "*", target: bool | None = None
) -> World:
    """Two stores; `target`: whether there is a collection, and whether it has scopes."""
    world = World()
    world.source.collections.clear()
    world.source.create(schema)
    [collection] = world.settings.collections
    collection = msgspec.structs.replace(collection, scopes=scopes)
    world.settings = msgspec.structs.replace(world.settings, collections=[collection])
    if target is not None:
        world.target.create(msgspec.structs.replace(BOOKS, name="books_v2", scoped=target))
    return world


def put(world: World, scope: str, *numbers: int) -> None:
    for number in numbers:
        held = point(number)
        moved = Point(ScopedId(scope, number), held.vectors, {"place": scope})
        world.source.write("books", Upsert(moved))


async def found(world: World) -> list[tuple[Severity, str]]:
    findings = await run_checks(
        world.settings,
        source=Reader(world.source.attach()),
        target=Reader(world.target.attach()),
        feed=world.log.attach(),
        standing=Standing(None, {world.log.name(0): 0}),
    )
    return [(finding.severity, finding.code) for finding in findings]


@virtual
@pytest.mark.parametrize(
    ("schema", "scopes", "expected"),
    [
        (SCOPED, None, [(Severity.BLOCKS, "scopes-unset")]),
        (BOOKS, "*", [(Severity.BLOCKS, "scopes-absent")]),
        (SCOPED, "*", []),
        (SCOPED, ["a"], []),
        (BOOKS, None, []),
    ],
)
async def test_keys_hold_a_scope_where_the_source_has_them(
    schema: CollectionSchema, scopes: Any, expected: list[tuple[Severity, str]]
) -> None:
    world = world_of(schema, scopes=scopes)
    assert await found(world) == expected
    world.target.create(msgspec.structs.replace(schema, name="books_v2"))
    drawing = draw_atlas(
        world.settings,
        Reader(world.source.attach()),
        Reader(world.target.attach()),
        embeddings=Embeddings(None, Patience(world.settings.stream)),
    )
    if not expected:
        assert (await drawing).scopes.get("books") == world.settings.collections[0].travelling
        return
    with pytest.raises(Blocked) as caught:
        await drawing
    assert caught.value.code == expected[0][1]


@virtual
async def test_a_copy_without_events_finds_out_by_itself() -> None:
    world = world_of(scopes=None)
    world.settings = msgspec.structs.replace(world.settings, feed=NoFeedSettings())
    put(world, "a", 1)
    assert await found(world) == []


@virtual
async def test_a_point_without_a_scope_has_no_place_at_a_target_with_them() -> None:
    world = world_of(BOOKS, scopes=None, target=True)
    assert (Severity.BLOCKS, "target-incompatible") in await found(world)


@virtual
async def test_points_of_all_scopes_lie_together_where_the_target_has_none() -> None:
    world = world_of(target=False)
    put(world, "a", 1, 2)
    put(world, "b", 1, 2)
    assert await found(world) == [(Severity.INFORMS, "id-invalid")]


@virtual
async def test_only_the_scopes_that_are_listed_are_read() -> None:
    world = world_of(scopes=["a", "c"], target=True)
    put(world, "a", 1, 2)
    put(world, "b", 1, 2, 3)
    atlas = await draw_atlas(
        world.settings,
        Reader(world.source.attach()),
        Reader(world.target.attach()),
        embeddings=Embeddings(None, Patience(world.settings.stream)),
    )
    scopes = atlas.scopes["books"]
    assert scopes == Scopes(frozenset({"a", "c"}))
    assert atlas.scopes_at_target("books") == scopes
    reader = Reader(world.source.attach())
    assert await reader.count("books", scopes) == 2
    assert await reader.count("books", Scopes()) == 5
    ids = {
        row.id
        for chunk in await reader.split("books", 3, scopes)
        async for page in reader.scan(chunk, None, 10)
        for row in page.points
    }
    assert ids == {ScopedId("a", 1), ScopedId("a", 2)}


@virtual
@pytest.mark.parametrize(
    ("scopes", "target", "expected"),
    [
        ("*", True, "all → scopes of the same names"),
        (["b", "a"], None, "a, b → scopes of the same names"),
        ("*", False, "all → all points together"),
    ],
)
async def test_the_plan_says_which_scopes_travel_and_whereto(
    scopes: Any, target: bool | None, expected: str
) -> None:
    world = world_of(scopes=scopes, target=target)
    put(world, "a", 1, 2)
    plan = await make_plan(
        world.settings,
        source=Reader(world.source.attach()),
        target=Reader(world.target.attach()),
    )
    [made] = plan.collections
    assert (made.scopes, made.points) == (expected, 2)


@virtual
async def test_a_store_without_scopes_is_not_asked_for_some() -> None:
    class Poor:
        """What a reader asks, and no scopes."""

        async def count(self, _: str) -> int:
            return 7

    reader = Reader(Poor())  # type: ignore[arg-type]
    assert await reader.count("books", Scopes()) == 7
    with pytest.raises(Refused) as caught:
        await reader.count("books", Scopes(frozenset({"a"})))
    assert caught.value.code == "scopes-absent"


def change(scope: str, number: int) -> ChangeEvent:
    made = upsert(number, changed=True)
    return msgspec.structs.replace(made, key=Key("books", ScopedId(scope, number)))


@virtual
async def test_a_scope_that_appears_while_the_stream_runs_is_made_at_the_target() -> None:
    world = world_of()
    put(world, "a", 1, 2)
    world.restart()
    async with world.running():
        world.write(change("new", 1), change("a", 2))
        await world.until_applied()
        report = await world.verify()
    assert (report.missing, report.extra, report.different) == (0, 0, 0)
    assert world.target.points("books_v2").keys() == {
        ScopedId("a", 1),
        ScopedId("a", 2),
        ScopedId("new", 1),
    }


@virtual
async def test_what_lies_in_other_scopes_of_the_target_is_nobodys_extra() -> None:
    world = world_of(scopes=["a"])
    put(world, "a", 1)
    put(world, "b", 1)
    world.restart()
    async with world.running():
        world.spoil(Upsert(Point(ScopedId("b", 7), point(7).vectors, {})))
        world.spoil(Upsert(Point(ScopedId("a", 7), point(7).vectors, {})))
        world.write(change("b", 1))
        await world.until_applied()
        report = await world.verify()
        assert (report.missing, report.extra, report.counts["books"]) == (0, 1, [1, 2])
        assert await world.migration.do(Repair()) == 1
    assert world.target.points("books_v2").keys() == {ScopedId("a", 1), ScopedId("b", 7)}


@virtual
async def test_a_point_without_a_scope_at_a_fan_in_is_extra_and_goes() -> None:
    world = world_of(target=False)
    put(world, "a", 1)
    world.restart()
    async with world.running():
        world.spoil(Upsert(point(1)))
        report = await world.verify()
        assert (report.missing, report.extra) == (0, 1)
        assert await world.migration.do(Repair()) == 1
        [left] = world.target.points("books_v2").values()
    assert left.payload == {"place": "a", "_source_id": 1, "_source_scope": "a"}


@virtual
async def test_an_event_of_before_scopes_is_a_dead_letter_and_the_stream_goes_on() -> None:
    world = world_of()
    world.restart()
    async with world.running():
        world.emit(upsert(1))
        world.write(change("a", 1))
        await world.until_applied()
        [letter] = await world.state.letters()
    assert letter.code == "scope-missing"
    assert world.target.points("books_v2").keys() == {ScopedId("a", 1)}
