"""A collection whose name is empty, such as a default namespace, is one as any other."""

from __future__ import annotations

import msgspec

from replicator.codecs.events import encode
from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.model.command import Abort, Repair
from replicator.model.event import ChangeEvent, Key
from replicator.model.letter import LetterState
from replicator.model.point import Point
from replicator.model.write import Delete, Upsert
from replicator.settings.patterns import Pattern
from replicator.settings.transform import CollectionSettings
from tests.migration.lives import cut_over
from tests.migration.rig import World
from tests.stream.rig import BOOKS, delete, point, upsert, vector, virtual


def unnamed(event: ChangeEvent) -> ChangeEvent:
    return msgspec.structs.replace(event, key=Key("", event.key.id))


def world_with(*tables: CollectionSettings) -> World:
    world = World()
    for name in ("", "named"):
        world.source.create(msgspec.structs.replace(BOOKS, name=name))
        for number in range(3):
            world.source.write(name, Upsert(point(number, of=name)))
    world.settings = msgspec.structs.replace(
        world.settings, target=JsonlSettings(path="elsewhere"), collections=list(tables)
    )
    world.restart()
    return world


def write(world: World, event: ChangeEvent) -> None:
    world.source.write(
        "",
        Upsert(Point(event.key.id, event.vectors, event.payload))
        if event.vectors
        else Delete(event.key.id),
    )
    key, value, *_ = encode(event)
    assert key == f"/{event.key.id}".encode()
    world.log.produce(key, value, partition=0)


@virtual
async def test_a_collection_without_a_name_is_migrated_as_any() -> None:
    world = world_with(
        CollectionSettings(source="", target=""),
        CollectionSettings(source="named", target="named"),
    )
    async with world.running() as migration:
        write(world, unnamed(upsert(7, n=7)))
        write(world, unnamed(delete(1)))
        # A null value, whose key alone says what is meant.
        world.source.write("", Delete(2))
        world.log.produce(b"/2", None, partition=0)
        await world.until_applied()
        assert world.target.points("").keys() == {0, 7}
        assert world.target.points("named").keys() == {0, 1, 2}

        world.target.write("", Delete(0))
        report = await world.verify()
        assert (report.missing, report.counts[""]) == (1, [2, 1])
        assert await migration.do(Repair("")) == 2
        assert (await world.verify()).missing == 0

        bad = unnamed(upsert(9))
        bad.vectors = {"v": vector() + vector()}
        world.emit(bad)
        await world.until_applied()
        [letter] = await migration.letters(LetterState.OPEN, 9, 0)
        assert letter.event_key == Key("", 9)
        kept = await migration.letter_bytes(letter.number)
        assert (kept.key, kept.event_key) == (b"/9", Key("", 9))
        world.source.write("", Upsert(point(9)))
        write(world, unnamed(upsert(9, n=9)))
        await world.until_applied()
        assert await migration.letters(LetterState.OPEN, 9, 0) == []

        await world.verify()
        await cut_over(world)
        world.log.produce(*encode(unnamed(upsert(8, n=8))), partition=0)
        await world.until_applied()
        assert world.source.points("").keys() == {0, 7, 8, 9}


@virtual
async def test_the_star_takes_the_one_without_a_name_too() -> None:
    world = world_with(CollectionSettings(source=Pattern("*")))
    del world.source.collections["books"]
    async with world.running() as migration:
        assert set(world.target.collections) == {"", "named"}
        await migration.do(Abort())
