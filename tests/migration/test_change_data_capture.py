"""A migration whose events are a database's own, captured by Debezium."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from replicator.model.command import Cutover, Repair
from replicator.model.letter import LetterState
from replicator.model.write import Delete, Upsert
from replicator.settings.feeds import TableSettings
from tests.migration.rig import World
from tests.stream.rig import point, virtual

UNTOUCHED = "__debezium_unavailable_value"


def captured() -> World:
    world = World()
    feed = msgspec.structs.replace(
        world.settings.feed,
        decoder="debezium",
        tables=[TableSettings(collection="books", vectors={"embedding": "v"})],
    )
    world.settings = msgspec.structs.replace(world.settings, feed=feed)
    world.restart()
    return world


def tell(world: World, op: str, number: int | None = None, **row: Any) -> None:
    """What the connector writes of a change to the row."""
    key = None if number is None else json.dumps({"id": number}).encode()
    envelope = {
        "op": op,
        "source": {"ts_ms": 5, "schema": "public", "table": "books"},
        "before": {"id": number} if op == "d" else None,
        "after": {"id": number, **row} if op in "cur" else None,
    }
    world.log.produce(key, json.dumps(envelope).encode(), partition=0)
    if op == "d":
        world.log.produce(key, None, partition=0)


@virtual
async def test_rows_that_a_database_tells_of_reach_the_target() -> None:
    world = captured()
    world.seed(1, 2, 3, title="old")
    async with world.running():
        tell(world, "u", 1, embedding=[5, 6], title="new")
        tell(
            world, "u", 2, embedding="__debezium_unavailable_value", title="renamed", gone=None
        )
        tell(world, "d", 3)
        tell(world, "c", 4, embedding="[7,8]", title="four")
        await world.until_applied()
        assert world.payloads() == {
            1: {"title": "new"},
            2: {"title": "renamed"},
            4: {"title": "four"},
        }
        held, seeded = world.held(2), point(2)
        assert held is not None
        assert held.vectors == seeded.vectors, "what the update did not touch"
        assert await world.state.letter_counts() == {"open": 0, "settled": 0, "discarded": 0}


@virtual
async def test_a_truncated_table_closes_the_gate_until_a_repair_has_followed_it() -> None:
    world = captured()
    world.seed(1, 2)
    async with world.running() as migration:
        for number in (1, 2):
            world.source.write("books", Delete(number))
        tell(world, "t")
        world.source.write("books", Upsert(point(9)))
        tell(world, "c", 9, embedding=[9, 9])
        await world.until_applied()
        [letter] = await world.state.letters(LetterState.OPEN)
        assert (letter.code, letter.path, letter.event_key) == ("table-truncated", "op", None)
        assert set(world.payloads()) == {1, 2, 9}
        blockers = await migration.do(Cutover(dry_run=True))
        assert "dead-letters" in {blocker.code for blocker in blockers}

        report = await world.verify()
        assert report.extra == 2
        await migration.do(Repair())
        assert set(world.payloads()) == {9}


@virtual
async def test_the_way_back_is_lossy_where_the_events_are_the_sources_own() -> None:
    world = captured()
    async with world.running() as migration:
        blockers = await migration.do(Cutover(dry_run=True))
        [lossy] = [each for each in blockers if each.code == "way-back-lossy"]
        assert "nothing of the target's" in lossy.message
