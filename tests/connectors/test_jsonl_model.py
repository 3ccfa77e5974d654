"""Any run of writes, crashes and compactions leaves what a plain dictionary would hold."""

from __future__ import annotations

import asyncio
import struct
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.connectors.jsonl.store import JsonlStore
from replicator.model.point import Point, PointId
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.model.write import Delete, Receipt, Upsert, WriteBatch
from replicator.settings.units import Size

IDS = st.sampled_from([0, 1, 2, (1 << 64) - 1, "0", "a", "ä\n"])
VALUES = st.none() | st.integers(0, 9) | st.just({"null": None})
PAYLOADS = st.dictionaries(st.sampled_from(["x", "y", "z\n"]), VALUES, max_size=3)
VECTORS = st.dictionaries(
    st.sampled_from(["", "v"]),
    st.integers(0, 9).map(lambda n: struct.pack("<f", n)),
    max_size=2,
)
WRITES = st.one_of(
    st.builds(lambda i, v, p: Upsert(Point(i, v, p)), IDS, VECTORS, PAYLOADS),
    st.builds(Delete, IDS),
)
BATCHES = st.lists(WRITES, max_size=5, unique_by=lambda write: (type(write.id), write.id))
STEPS = st.lists(
    st.one_of(
        BATCHES, st.sampled_from(["compact", "reopen", "torn", "swap", "mark"]), st.binary()
    ),
    max_size=12,
)


def carry_out(model: dict[PointId, Point], write: Upsert | Delete) -> None:
    """Apply a write to the model."""
    match write:
        case Upsert(point):
            model[point.id] = point
        case Delete():
            model.pop(write.id, None)


async def play(directory: Path, steps: list[Any]) -> None:
    file = directory / "a.jsonl"

    def opened() -> JsonlStore:
        return JsonlStore(
            JsonlSettings(path=str(directory), fsync=False, segment_bytes=Size(1))
        )

    store, other = opened(), opened()
    schema = CollectionSchema(name="a", vectors=None, ids=IdKinds.STRING, capture_id="c")
    await store.ensure(schema)
    model: dict[PointId, Point] = {}
    for step in steps:
        match step:
            case list():
                receipt = await store.apply(WriteBatch("a", tuple(step)))
                for write in step:
                    carry_out(model, write)
                assert receipt == Receipt()
            case "compact":
                await store.finish_bulk("a")
            case "reopen":
                await store.close()
                store = opened()
            case "swap":
                store, other = other, store
            case "mark":
                await store.ensure(schema)
            case "torn":
                with file.open("ab") as dying:
                    dying.write(b'{"id":0,"vectors":{"":"f32:')
            case bytes():
                with file.open("ab") as dying:
                    dying.write(b'{"id":1,"payload":{"y":"' + step.replace(b"\n", b""))
        for reader in (store, other):
            found: dict[PointId, Point] = {}
            for chunk in await reader.split("a", 3):
                async for page in reader.scan(chunk, None, 2):
                    assert page.rejected == ()
                    found |= {point.id: point for point in page.points}
            assert found == model
            assert await reader.count("a") == len(model)
    await store.finish_bulk("a")
    assert len(file.read_bytes().splitlines()) == 1 + len(model)
    described = await other.describe("a")
    assert described is not None
    assert described.capture_id == "c"
    await store.close()
    await other.close()


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_store_holds_what_a_dictionary_would(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(play(Path(directory), steps))
