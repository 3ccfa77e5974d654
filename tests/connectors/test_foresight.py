"""What a store foresees is what `ensure` then makes; to look changes nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.connectors.jsonl.store import JsonlStore
from replicator.connectors.qdrant.store import QdrantStore
from replicator.errors import Refused
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    VectorIndex,
    VectorSchema,
)
from replicator.ports.store import Foresight, Store
from replicator.testing.memory_store import MemoryStore
from replicator.testing.store_conformance import PREFIX

ABSENT = f"{PREFIX}absent"
WANTED = CollectionSchema(
    name=f"{PREFIX}foreseen",
    vectors={"": VectorSchema(size=4, distance=Distance.DOT)},
    ids=IdKinds.STRING,
    indexes={"year": "integer"},
)


def essence(schema: CollectionSchema | None) -> object:
    assert schema is not None
    # Of the index a server has defaults that nobody asked for.
    vectors = {
        name: msgspec.structs.replace(vector, index=VectorIndex())
        for name, vector in (schema.vectors or {}).items()
    }
    return (
        schema.name,
        vectors,
        schema.ids,
        schema.indexes,
        schema.normalises,
        schema.scoped,
    )


async def as_foreseen(store: Store) -> None:
    assert isinstance(store, Foresight)
    scoped = msgspec.structs.replace(WANTED, name=f"{WANTED.name}-scoped", scoped=True)
    for wanted in (WANTED, scoped):
        foreseen = await store.foresee(wanted)
        assert foreseen.scoped is wanted.scoped
        assert await store.describe(wanted.name) is None
        await store.ensure(wanted)
        assert essence(await store.describe(wanted.name)) == essence(foreseen)
        assert essence(await store.foresee(wanted)) == essence(foreseen), "there it is now"


async def test_of_files(tmp_path: Path) -> None:
    store = JsonlStore(JsonlSettings(path=str(tmp_path / "files")))
    await as_foreseen(store)
    await store.close()


async def test_of_memory() -> None:
    await as_foreseen(MemoryStore().attach())


async def test_of_qdrant(store: QdrantStore) -> None:
    await as_foreseen(store)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vectors": {"": VectorSchema(size=9, distance=Distance.DOT)}}, "4 dimensions, not 9"),
        (
            {"vectors": {"text": VectorSchema(size=4, distance=Distance.DOT)}},
            "no vector 'text'",
        ),
        ({"name": ABSENT, "vectors": None}, "not known"),
        ({"name": ABSENT, "indexes": {"year": "roman"}}, "no payload index"),
    ],
)
async def test_qdrant_refuses_beforehand_what_ensure_refuses(
    store: QdrantStore, changes: dict[str, object], words: str
) -> None:
    await store.ensure(WANTED)
    wanted = msgspec.structs.replace(WANTED, **changes)
    with pytest.raises(Refused, match=words):
        await store.foresee(wanted)
    assert await store.describe(ABSENT) is None
    with pytest.raises(Refused, match=words):
        await store.ensure(wanted)


async def test_a_folder_that_may_not_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JsonlStore(JsonlSettings(path=str(tmp_path / "files")))
    assert await store.check_writing(["a"]) == []
    monkeypatch.setattr("os.access", lambda _path, _mode: False)
    [finding] = await store.check_writing(["a", "b"])
    assert finding.code == "permission-denied"
    await store.close()
