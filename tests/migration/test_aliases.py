"""The collections are those with which the migration began, wherever their aliases lead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from replicator.errors import Refused
from replicator.model.command import Pause, Resume
from replicator.model.phase import Direction, Phase
from replicator.model.schema import Distance, VectorSchema
from tests.migration.lives import (
    at_target,
    by_a_new_stream,
    by_the_gate,
    codes,
    cut_over,
    is_blocked,
    ready,
    stamped,
    streams,
)
from tests.migration.rig import World
from tests.stream.rig import BOOKS, upsert, virtual


def with_aliases(world: World) -> dict[str, str]:
    """Let `books` be an alias at the source; where aliases lead, which a test may change."""
    behind = {"books": "books_v1"}
    world.source.create(msgspec.structs.replace(BOOKS, name="books_v1"))
    world.source.collections["books"] = world.source.collections["books_v1"]

    async def read_alias(alias: str) -> str | None:
        return behind.get(alias)

    async def point_alias(alias: str, collection: str) -> None:
        behind[alias] = collection

    world.images.read_alias = read_alias  # type: ignore[attr-defined]
    world.images.point_alias = point_alias  # type: ignore[attr-defined]
    return behind


@pytest.mark.parametrize("seen", [by_the_gate, by_a_new_stream])
@virtual
async def test_an_alias_of_the_source_that_leads_elsewhere_stops_everything(
    seen: Callable[[World], Awaitable[None]],
) -> None:
    world = World()
    behind = with_aliases(world)
    async with world.running() as migration:
        await ready(world)
        assert world.record.collections["source/books"] == "books_v1"
        assert await codes(world) == set()
        behind["books"] = "books_v9"
        await seen(world)
        await is_blocked(world, "alias-moved")
        world.write(upsert(3, n=3))
        with pytest.raises(Refused) as caught:
            await migration.do(Resume())
        assert caught.value.code == "alias-moved"
        assert set(world.payloads()) == {1, 2}
        behind["books"] = "books_v1"
        await migration.do(Resume())
        await streams(world)
        assert set(world.payloads()) == {1, 2, 3}


@virtual
async def test_an_alias_that_the_switch_has_moved_to_the_target_is_no_other_collection() -> (
    None
):
    world = World()
    behind = with_aliases(world)
    world.switch.on_switch = lambda: behind.update(books="books_v2")
    async with world.running() as migration:
        await ready(world)
        await cut_over(world)
        assert world.record.direction is Direction.REVERSE
        await migration.do(Pause())
        behind["books"] = "books_v9"
        await migration.do(Resume())
        await is_blocked(world, "alias-moved")


@virtual
async def test_an_alias_that_a_person_switched_keeps_the_reverse_stream_off_its_target() -> (
    None
):
    """`books` stood for the old store's collection, and stands for the new one's now."""
    world = World()
    behind = with_aliases(world)
    describe = world.images._store.describe
    other = msgspec.structs.replace(
        BOOKS, vectors={"w": VectorSchema(size=2, distance=Distance.DOT)}
    )

    async def described(name: str) -> Any:
        return other if behind.get(name) == "books_v2" else await describe(name)

    world.images.describe = described  # type: ignore[attr-defined]
    async with world.running():
        await ready(world)

        def switched() -> None:
            behind.update(books="books_v2")
            del world.source.collections["books"]
            world.source.create(BOOKS)

        world.switch.on_switch = switched
        await cut_over(world)
        at_target(world, stamped(upsert(1, n="after"), 1))
        await world.until_applied()
        assert world.record.phase is Phase.STREAMING
        assert await world.state.letters() == [], "it is judged by its own store's schema"
        assert world.source.points("books_v1")[1].payload == {"n": "after"}
        assert world.source.points("books") == {}
        report = await world.verify()
        assert report.equal, "it compares the collection that was copied, not the alias"
        assert report.counts == {"books": [2, 2]}


@virtual
async def test_names_are_resolved_at_the_capture_that_is_kept() -> None:
    """A first run that died before its capture was kept resolved them for nobody."""
    world = World()
    behind = with_aliases(world)
    commit = world.state.commit

    async def dies(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    world.state.commit = dies  # type: ignore[method-assign]
    task = asyncio.create_task(world.migration.run())
    await world.until(
        lambda: world.migration._have_begun is not None and bool(world.record.collections)
    )
    task.cancel()
    await asyncio.wait([task])
    world.state.commit = commit  # type: ignore[method-assign]
    behind["books"] = "books_v3"
    world.source.create(msgspec.structs.replace(BOOKS, name="books_v3"))
    world.restart()
    async with world.running():
        assert world.record.collections["source/books"] == "books_v3"
