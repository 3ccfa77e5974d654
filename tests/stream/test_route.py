"""A route carries a batch at once, whatever its transform asks of others."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Sequence

import msgspec
import pytest

from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import Payload, Point, PointId
from replicator.model.traits import Lists, PayloadRules
from replicator.model.write import Delete, Patch, Upsert, Write
from replicator.ports.transform import Item, Passing, Row, Transform
from replicator.stream.ownership import Revoked
from replicator.testing.memory_store import MEMORY
from tests.stream.rig import Rig, delete, key, now, patch, point, upsert, vector, virtual


class Embedding:
    """Asks somebody else for vectors, some at a time, and is refused what says so."""

    pure = False
    filter: Passing | None = None

    def __init__(self, takes_s: float = 1.0) -> None:
        self.asked: list[list[PointId]] = []
        self.cut = 0
        self._takes_s = takes_s

    @property
    def lossy(self) -> list[str]:
        return ["the vectors are others"]

    def target_id(self, key: Key) -> PointId:
        return key.id

    def candidates(self, target_id: PointId, payload: Payload) -> list[PointId]:
        return [target_id]

    def stray(self, target_id: PointId) -> PointId:
        return target_id

    def target_vector(self, name: str) -> str | None:
        return name

    def needs_image(self, event: ChangeEvent) -> bool:
        return event.op is Op.PATCH and "text" in {*event.set, *event.unset}

    async def writes(self, items: Sequence[Item]) -> list[Write | Rejected]:
        self.asked.append([item.key.id for item in items])
        try:
            await asyncio.sleep(self._takes_s)
        except asyncio.CancelledError:
            self.cut += 1
            raise
        return [self._write(item) for item in items]

    def _write(self, item: Item) -> Write | Rejected:
        if isinstance(item, Row):
            return Delete(item.key.id) if item.point is None else self._image(item.point)
        match item.op:
            case Op.UPSERT:
                return self._image(Point(item.key.id, item.vectors, item.payload))
            case Op.DELETE:
                return Delete(item.key.id)
            case Op.PATCH:
                return Patch(id=item.key.id, set=item.set, unset=item.unset)

    def _image(self, image: Point) -> Write | Rejected:
        text = image.payload.get("text", "")
        if not text:
            return Rejected("transform-failed", "there is nothing to embed", "payload.text")
        return Upsert(Point(image.id, {"v": vector(len(text))}, image.payload))


def embedding(rig: Rig) -> Embedding:
    """Let the rig embed anew."""
    made: Transform = Embedding()
    rig.routes["books"] = msgspec.structs.replace(rig.routes["books"], transform=made)
    assert isinstance(made, Embedding)
    return made


@virtual
async def test_events_and_rows_become_writes_in_their_order() -> None:
    route = Rig().routes["books"]
    spoilt = Point(3, {"v": struct.pack("<2f", math.nan, 0.0)}, {})
    writes = await route.writes(
        [
            upsert(1, a=1),
            Row(key(3), spoilt),
            patch(2, b=2),
            Row(key(4), None),
            delete(5),
            Row(key(6), point(6, c=3)),
        ]
    )
    refused = writes.pop(1)
    assert isinstance(refused, Rejected)
    assert refused.code == "vector-not-finite"
    assert writes == [
        Upsert(point(1, a=1)),
        Patch(id=2, set={"b": 2}),
        Delete(4),
        Delete(5),
        Upsert(point(6, c=3)),
    ]


@virtual
async def test_a_pure_transform_is_answered_without_a_turn_of_the_loop() -> None:
    rig = Rig()
    carrying = rig.routes["books"].writes([upsert(n) for n in range(100)], rig.lease)
    with pytest.raises(StopIteration) as ended:
        carrying.send(None)
    assert len(ended.value.value) == 100


@virtual
async def test_a_batch_is_asked_for_at_once_and_what_is_refused_is_alone() -> None:
    rig = Rig()
    made = embedding(rig)
    changes = [upsert(1, text="abc"), upsert(2), upsert(3, text="x"), delete(4)]
    refused = await rig.applier.apply(rig.lease, [(e.key, e) for e in changes])
    assert made.asked == [[1, 2, 3, 4]]
    assert {k.id: error.path for k, error in refused.items()} == {2: "payload.text"}
    held = rig.target.points("books")
    assert {i: p.vectors["v"] for i, p in held.items()} == {1: vector(3), 3: vector(1)}


@virtual
async def test_an_answer_is_waited_for_no_longer_than_the_lease_is_held() -> None:
    rig = Rig()
    made = embedding(rig)
    applying = asyncio.create_task(
        rig.applier.apply(rig.lease, [(key(1), upsert(1, text="a"))])
    )
    await asyncio.sleep(0.5)
    rig.lease.revoke()
    with pytest.raises(Revoked):
        await applying
    await asyncio.sleep(0)
    assert (now(), made.cut) == (0.5, 1)
    assert rig.door.batches == []


@virtual
async def test_what_was_asked_when_the_stream_ended_is_asked_again_by_the_next() -> None:
    rig = Rig()
    made = embedding(rig)
    rig.emit(upsert(1, text="a"))
    async with rig.streaming():
        await rig.until(lambda: bool(made.asked))
    assert rig.stream.committed == {rig.first: 0}
    again = Rig()
    made = embedding(again)
    again.emit(upsert(1, text="a"))
    async with again.streaming(rig.stream.committed):
        await again.until_written()
    assert (made.asked, again.payloads()) == ([[1]], {1: {"text": "a"}})


@virtual
async def test_a_patch_that_it_cannot_follow_takes_the_sources_image() -> None:
    rig = Rig(show_after_s=3.0)
    made = embedding(rig)
    rig.seed(point(1, text="ab", n=1))
    rig.source.write("books", Patch(id=1, set={"text": "abcd"}))
    rig.emit(patch(1, text="abcd"), patch(2, n=2))
    async with rig.streaming():
        await rig.until_written()
    assert made.asked == [[2], [1]]
    assert rig.target.points("books")[1] == Point(1, {"v": vector(4)}, {"text": "abcd", "n": 1})


@virtual
async def test_what_nests_is_one_text_in_image_row_and_patch_and_whole_on_the_way_back() -> (
    None
):
    flat = PayloadRules(nested=False, lists=Lists.TEXTS)
    rig = Rig(traits=msgspec.structs.replace(MEMORY, payload=flat))
    nested = {"b": 1, "a": 2}
    first, second, third = await rig.routes["books"].writes(
        [upsert(1, n=nested), Row(key(1), point(1, n=nested)), patch(1, n=nested, l=["x"])]
    )
    assert first == second == Upsert(point(1, n='{"a":2,"b":1}'))
    assert third == Patch(id=1, set={"n": '{"a":2,"b":1}', "l": ["x"]})
