"""Points with several vectors of every kind, named and renamed."""

from __future__ import annotations

from typing import Any

import numpy as np
from qdrant_client import AsyncQdrantClient, models

from tests.endtoend.daemon import Document
from tests.endtoend.events import ChangelogSink, event, packed
from tests.endtoend.model import connect
from tests.endtoend.processes import until
from tests.endtoend.rig import Rig

Changelog = tuple[ChangelogSink, Document]


async def held(client: AsyncQdrantClient, name: str) -> dict[Any, Any]:
    points, _ = await client.scroll(name, limit=100, with_payload=True, with_vectors=True)
    return {point.id: (point.vector, point.payload) for point in points}


def same(one: Any, other: Any) -> bool:
    """Equal but for the last bits of floats."""
    if isinstance(one, models.SparseVector):
        return one.indices == other.indices and same(one.values, other.values)
    return bool(np.allclose(one, other, rtol=0, atol=1e-6))


async def test_dense_sparse_and_multi_vectors_are_copied_streamed_and_patched(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    sink, feed = changelog
    [collection] = rig.collections()
    name = collection.source
    app = await rig.application(stores, sink, [], records=0)
    app.collections.append(collection)
    await app.source.create_collection(
        name,
        vectors_config={
            "dense": models.VectorParams(size=3, distance=models.Distance.COSINE),
            "many": models.VectorParams(
                size=2,
                distance=models.Distance.DOT,
                multivector_config=models.MultiVectorConfig(
                    comparator=models.MultiVectorComparator.MAX_SIM
                ),
            ),
        },
        sparse_vectors_config={"words": models.SparseVectorParams()},
    )
    await app.source.create_payload_index(
        name, "lang", models.PayloadSchemaType.KEYWORD, wait=True
    )
    whole: dict[str, Any] = {
        "dense": [3.0, 4.0, 0.0],
        "many": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
        "words": models.SparseVector(indices=[7, 3, 4_000_000_000], values=[0.5, 1.5, 2.5]),
    }
    rows = [
        models.PointStruct(id=1, vector=whole, payload={"lang": "de"}),
        models.PointStruct(id=2, vector={"dense": [1.0, 0.0, 0.0]}, payload={"a": None}),
        models.PointStruct(id=3, vector={}, payload={"deep": {"list": [1, 2.5, "x", True]}}),
    ]
    await app.source.upsert(name, rows, wait=True)
    daemon = rig.daemon(stores, [collection], feed)
    listed = daemon.document["collections"][0]
    listed["transform"] = {"vectors": {"dense": "text", "many": "many", "words": "words"}}
    daemon.rewrite()
    await daemon.start()
    await daemon.phase("STREAMING")
    target = connect(stores[1])

    async def equal() -> bool:
        wanted, found = await held(app.source, name), await held(target, collection.target)
        if wanted.keys() != found.keys():
            return False
        for key, (vectors, payload) in wanted.items():
            renamed = {"text" if v == "dense" else v: x for v, x in vectors.items()}
            actual, other = found[key]
            if payload != other or renamed.keys() != actual.keys():
                return False
            if not all(same(renamed[v], actual[v]) for v in renamed):
                return False
        return True

    assert await equal()

    await app.source.upsert(
        name, [models.PointStruct(id=4, vector=whole, payload={"lang": "fr"})], wait=True
    )
    many = np.asarray(whole["many"], dtype="<f4").tobytes()
    sparse = {"indices": [3, 7, 4_000_000_000], "values": packed([1.5, 0.5, 2.5])}
    vectors = {
        "dense": packed(whole["dense"]),
        "many": {"rows": 3, "data": many},
        "words": sparse,
    }
    await app.source.update_vectors(
        name, [models.PointVectors(id=2, vector={"many": [[9.0, 9.0]]})], wait=True
    )
    await app.source.delete_vectors(name, ["words"], points=[1], wait=True)
    await sink.emit(
        [
            event("upsert", name, 4, vectors=vectors, payload={"lang": "fr"}),
            event("patch", name, 2, vectors={"many": {"rows": 1, "data": packed([9.0, 9.0])}}),
            event("patch", name, 1, unset_vectors=["words"]),
        ]
    )
    await daemon.applied(sink.ends)
    await until(equal, "both stores hold the same")
    report = await daemon.did("verify", level="full")
    assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
    assert report["counts"] == {name: [4, 4]}
    info = await target.get_collection(collection.target)
    assert (await daemon.status())["stream"]["dead_letters"] == 0
    assert info.points_count == 4
    await target.close()
