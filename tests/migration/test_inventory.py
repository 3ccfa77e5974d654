"""The collections of a pattern are those that there were when the migration began."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from replicator.codecs.events import encode
from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.errors import Refused, Unavailable
from replicator.migration.process.inventory import LOOK_S
from replicator.model.command import Abort
from replicator.model.event import Key
from replicator.model.phase import Phase
from replicator.model.point import id_order
from replicator.model.status import Status
from replicator.model.write import Upsert
from replicator.settings.fingerprint import fingerprint
from replicator.settings.patterns import Pattern
from replicator.settings.transform import CollectionSettings, TransformSettings
from tests.migration.lives import cut_over, killed
from tests.migration.rig import World
from tests.stream.rig import BOOKS, point, upsert, virtual


def make(world: World, *names: str, rows: int = 3) -> None:
    """Collections of the source, with rows that say whose they are."""
    for name in names:
        world.source.create(msgspec.structs.replace(BOOKS, name=name))
        for number in range(rows):
            world.source.write(name, Upsert(point(number, of=name)))


def emit(world: World, collection: str, number: int) -> None:
    """The application writes a row of a collection, and emits."""
    event = msgspec.structs.replace(upsert(number, of=collection), key=Key(collection, number))
    world.source.write(collection, Upsert(point(number, of=collection)))
    world.log.produce(*encode(event), partition=0)


def configure(world: World, *tables: CollectionSettings, wipe: tuple[str, ...] = ()) -> None:
    """The next process has these tables."""
    world.settings = msgspec.structs.replace(
        world.settings, target=JsonlSettings(path="elsewhere"), collections=list(tables)
    )
    world.restart()
    told = "" if world.settings.has_patterns else fingerprint(world.settings)
    world.migration.parts = msgspec.structs.replace(
        world.migration.parts, wipe=wipe, fingerprint=told
    )


def glob(text: str, **given: Any) -> CollectionSettings:
    return CollectionSettings(source=Pattern(text), **given)


def named(name: str, target: str = "") -> CollectionSettings:
    return CollectionSettings(source=name, target=target or name)


def at_target(world: World) -> dict[str, list[Any]]:
    """The ids of each collection of the target."""
    return {
        name: sorted(world.target.points(name), key=id_order)
        for name in world.target.collections
    }


async def status(world: World) -> Status:
    return await world.migration.status()


async def warned(world: World) -> list[str]:
    """The collections that the status warns of."""
    return [each.message.split("'")[1] for each in (await status(world)).warnings]


def world_of(*names: str) -> World:
    world = World()
    make(world, *names)
    configure(world, glob("docs-*"))
    return world


@virtual
async def test_every_collection_that_matches_is_taken_under_its_own_name_and_no_other() -> None:
    world = world_of("docs-a", "docs-b", "doc", "old-docs-a")
    async with world.running():
        for name in ("docs-a", "docs-b", "doc"):
            emit(world, name, 7)
        await world.until_applied()
        assert at_target(world) == {"docs-a": [0, 1, 2, 7], "docs-b": [0, 1, 2, 7]}
        assert world.target.points("docs-b")[7].payload == {"of": "docs-b"}
        assert (await status(world)).stream.ignored == 1
        assert await warned(world) == []
        sources = {n for n in world.record.collections if n.startswith("source/")}
        assert sources == {"source/docs-a", "source/docs-b"}


@virtual
async def test_a_table_of_its_own_comes_before_a_pattern_and_the_first_pattern_counts() -> None:
    world = world_of("docs-a", "docs-b", "docs-c")
    configure(
        world,
        glob("docs-[ab]", transform=TransformSettings(constant={"by": "first"})),
        named("docs-a", "renamed"),
        glob("docs-*", transform=TransformSettings(constant={"by": "second"})),
    )
    async with world.running():
        by = {name: world.target.points(name)[0].payload.get("by") for name in at_target(world)}
        assert by == {"renamed": None, "docs-b": "first", "docs-c": "second"}


@virtual
async def test_what_comes_later_is_shown_and_not_taken() -> None:
    world = world_of("docs-a", "docs-b")
    async with killed(world):
        make(world, "docs-new", "other")
        emit(world, "docs-new", 7)
        await asyncio.sleep(LOOK_S + 1)
        assert await warned(world) == ["docs-new"]
        assert (await status(world)).stream.ignored == 1
        await asyncio.sleep(2 * LOOK_S)
    async with world.running():
        emit(world, "docs-new", 8)
        emit(world, "docs-a", 8)
        await world.until_applied()
        assert at_target(world) == {"docs-a": [0, 1, 2, 8], "docs-b": [0, 1, 2]}
        [warning] = (await status(world)).warnings
        assert (warning.code, bool(warning.hint)) == ("collection-left-out", True)
        told = [e for e in await world.entries() if e.step == "inventory"]
        assert [entry.evidence for entry in told] == [{"names": ["docs-new"]}]
        await world.verify()
        await cut_over(world)
    assert "docs-new" not in at_target(world)


@virtual
async def test_the_set_is_kept_from_the_capture_on_whatever_happens_meanwhile() -> None:
    world = world_of("docs-a", "docs-b")
    world.door.held = {0, 1, 2}  # the copy writes nothing
    async with killed(world, Phase.BACKFILL):
        assert at_target(world).get("docs-a", []) == []
    make(world, "docs-new")
    async with world.running():
        assert at_target(world) == {"docs-a": [0, 1, 2], "docs-b": [0, 1, 2]}
        assert await warned(world) == ["docs-new"]


@virtual
async def test_before_the_capture_the_source_is_asked_anew() -> None:
    world = world_of("docs-a")
    world.log.away = True
    async with killed(world, Phase.PLANNED):
        await asyncio.sleep(5)
    make(world, "docs-b")
    world.log.away = False
    async with world.running():
        assert set(at_target(world)) == {"docs-a", "docs-b"}
        assert await warned(world) == []


@virtual
async def test_names_that_were_resolved_bind_nobody_before_the_capture() -> None:
    world = world_of("docs-a")
    commit = world.state.commit

    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    world.state.commit = never  # type: ignore[assignment,method-assign]
    async with killed(world, Phase.PLANNED):
        await world.until(lambda: "source/docs-a" in world.record.collections)
    world.state.commit = commit  # type: ignore[method-assign]
    make(world, "docs-b")
    async with world.running():
        assert set(at_target(world)) == {"docs-a", "docs-b"}
        assert await warned(world) == []


@virtual
async def test_a_new_attempt_takes_what_there_is_by_then() -> None:
    world = world_of("docs-a")
    async with world.running() as migration:
        make(world, "docs-b")
        await migration.do(Abort())
    for name in list(world.target.collections):
        del world.target.collections[name]
    world.restart()
    async with world.running():
        assert set(at_target(world)) == {"docs-a", "docs-b"}


@virtual
async def test_names_in_the_place_of_the_pattern_are_the_same_plan() -> None:
    world = world_of("docs-a", "docs-b")
    async with world.running():
        pass
    make(world, "docs-new")
    for tables in ([named("docs-b"), named("docs-a")], [named("docs-a"), glob("docs-?")]):
        configure(world, *tables)
        async with world.running():
            assert set(at_target(world)) == {"docs-a", "docs-b"}


@pytest.mark.parametrize(
    "tables",
    [
        [glob("docs-b")],
        [glob("docs-*"), named("docs-new")],
        [glob("docs-*", transform=TransformSettings(drop=["of"]))],
    ],
    ids=["one-less", "one-more", "another-transform"],
)
@virtual
async def test_other_collections_are_another_plan(tables: list[CollectionSettings]) -> None:
    world = world_of("docs-a", "docs-b")
    async with world.running():
        pass
    make(world, "docs-new")
    configure(world, *tables)
    with pytest.raises(Refused) as caught:
        await world.migration.run()
    assert caught.value.code == "plan-changed"


@virtual
async def test_a_pattern_that_matches_nothing_begins_nothing() -> None:
    world = world_of("doc", "Docs-a")
    with pytest.raises(Refused) as caught:
        await world.migration.run()
    assert caught.value.code == "collections-unmatched"
    assert "'docs-*'" in caught.value.message
    assert await world.state.load() is None


@virtual
async def test_a_source_that_is_away_at_the_start_is_waited_for() -> None:
    world = world_of("docs-a")
    world.source.away = True
    with pytest.raises(Unavailable) as caught:
        await world.migration.run()
    assert caught.value.code == "source-unavailable"
    with pytest.raises(Refused, match=r"still starting: .+; try again"):
        await world.migration.status()
    world.source.away = False
    async with world.running():
        assert set(at_target(world)) == {"docs-a"}
        assert world.migration.engine.is_clear, "it was nobody's unclean end"


@virtual
async def test_a_drain_ends_the_wait_for_the_source() -> None:
    world = world_of("docs-a")

    async def never() -> list[str]:
        await asyncio.Event().wait()
        return []

    world.images.collections = never  # type: ignore[attr-defined]
    starting = asyncio.create_task(world.migration.run())
    await asyncio.sleep(1)
    world.migration.request_drain()
    await starting
    assert await world.state.load() is None


@virtual
async def test_a_source_that_goes_away_is_not_taken_for_an_empty_one() -> None:
    world = world_of("docs-a")
    async with world.running():
        make(world, "docs-new")
        await asyncio.sleep(LOOK_S + 1)
        world.source.away = True
        await asyncio.sleep(2 * LOOK_S)
        assert await warned(world) == ["docs-new"]
        world.source.away = False
        del world.source.collections["docs-new"]
        await asyncio.sleep(2 * LOOK_S)
        assert await warned(world) == []


@virtual
async def test_a_source_that_does_not_tell_any_more_is_a_warning_until_it_does() -> None:
    world = world_of("docs-a")
    async with world.running():
        listed = world.images._store.collections

        async def refused() -> list[str]:
            raise Refused("permission-denied", "this key may not list")

        world.images.collections = refused  # type: ignore[attr-defined]
        await asyncio.sleep(LOOK_S + 1)
        [warning] = (await status(world)).warnings
        assert warning.code == "permission-denied"
        assert "this key may not list" in warning.message
        world.images.collections = listed  # type: ignore[attr-defined]
        await asyncio.sleep(LOOK_S + 1)
        assert await warned(world) == []


@pytest.mark.parametrize("table", [glob("docs-*"), named("docs-a")], ids=["pattern", "name"])
@virtual
async def test_one_that_vanished_is_missed_as_one_that_was_named(
    table: CollectionSettings,
) -> None:
    world = world_of("docs-a")
    configure(world, table)
    async with world.running():
        pass
    configure(world, table)
    del world.source.collections["docs-a"]
    starting = asyncio.create_task(world.migration.run())
    await asyncio.sleep(30)
    told = {each.code for each in (await status(world)).not_ready}
    assert "source-missing" in told
    world.migration.request_drain()
    await starting


@virtual
async def test_only_a_target_of_the_migration_can_be_wiped() -> None:
    world = world_of("docs-a")
    configure(world, glob("docs-*"), wipe=("docs-z",))
    with pytest.raises(Refused, match="docs-z") as caught:
        await world.migration.run()
    assert caught.value.code == "not-found"


@pytest.mark.parametrize(
    ("table", "why"),
    [(named("b", "docs-a"), r"collections\[1\] writes"), (named("b", "c"), "name of a file")],
)
@virtual
async def test_a_name_that_the_target_cannot_have_is_refused(
    table: CollectionSettings, why: str
) -> None:
    world = world_of("docs-a", "b")
    if table.target == "c":
        make(world, "docs-/x")
    configure(world, glob("docs-*"), table)
    with pytest.raises(Refused, match=why) as caught:
        await world.migration.run()
    assert caught.value.code == "config-invalid"
