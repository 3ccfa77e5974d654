"""What becomes of a batch of which something is refused, and of patches of absent points."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.connectors.qdrant.store import QdrantStore
from replicator.errors import Refused, Rejected
from replicator.local_store import LocalStoreServer
from replicator.model.point import Point, PointId, SparseVector, id_order
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    VectorKind,
    VectorSchema,
)
from replicator.model.write import Delete, Patch, Receipt, Upsert, Write, WriteBatch
from replicator.testing.store_conformance import floats, fresh_name

SHAPES = {
    "a": VectorSchema(size=2, distance=Distance.DOT),
    "s": VectorSchema(kind=VectorKind.SPARSE),
}

Look = Callable[[Any], tuple[grpc.StatusCode, str] | None]


class Watch(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc is untyped
    """Counts the calls of each method, and refuses those that `look` wants refused."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.look: dict[str, Look] = {}

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        method = details.method.rpartition("/")[2]
        handler = await continuation(details)

        async def watched(request: Any, context: grpc.aio.ServicerContext) -> Any:
            self.calls[method] += 1
            refusal = self.look[method](request) if method in self.look else None
            if refusal is not None:
                await context.abort(*refusal)
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            watched,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def watched(tmp_path: Path, watch: Watch) -> AsyncIterator[QdrantStore]:
    """A connector to a server that is watched."""
    async with LocalStoreServer(tmp_path / "watched", interceptors=[watch]) as server:
        connected = QdrantStore(QdrantSettings(url=server.url))
        yield connected
        await connected.close()


async def made(store: QdrantStore, *numbers: int) -> str:
    name = fresh_name()
    await store.ensure(CollectionSchema(name=name, vectors=SHAPES, ids=IdKinds.UINT64))
    await write(store, name, *(Upsert(whole(number)) for number in numbers))
    return name


def whole(number: int, **payload: Any) -> Point:
    return Point(number, {"a": floats(1, 2)}, payload)


async def write(store: QdrantStore, name: str, *writes: Write) -> Receipt:
    return await store.apply(WriteBatch(name, writes))


def reasons(receipt: Receipt) -> dict[Any, tuple[str, str]]:
    return {point_id: (error.code, error.path) for point_id, error in receipt.rejected}


async def test_a_batch_of_which_all_upserts_are_refused_here_does_the_rest(
    store: QdrantStore,
) -> None:
    name = await made(store, 1)
    receipt = await write(store, name, Upsert(whole(2, views=1 << 63)), Delete(1))
    assert reasons(receipt) == {2: ("field-invalid", "payload.views")}
    assert await store.fetch(name, [1, 2]) == {}


async def test_a_point_refused_here_alone_keeps_its_own_reason(store: QdrantStore) -> None:
    name = await made(store)
    receipt = await write(store, name, Upsert(whole(1, views=1 << 63)))
    assert reasons(receipt) == {1: ("field-invalid", "payload.views")}


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        (
            Patch(id=1, set={"n": 2}, vectors={"nope": floats(1, 1)}),
            ("vector-unknown", "vectors.nope"),
        ),
        (
            Patch(id=1, set={"n": 2}, vectors={"a": floats(1, 1, 1)}),
            ("vector-dimension", "vectors.a"),
        ),
        (
            Patch(id=1, set={"n": 2}, unset_vectors=("nope",)),
            ("vector-unknown", "unset_vectors.nope"),
        ),
        (
            Patch(id=1, vectors={"a": floats(5, 5)}, set={"n": 1 << 64}),
            ("field-invalid", "set.n"),
        ),
        (
            Patch(id=1, vectors={"a": floats(5, 5)}, unset=("\ud800",)),
            ("field-invalid", ""),
        ),
    ],
)
async def test_a_patch_that_is_refused_has_changed_nothing(
    store: QdrantStore, patch: Patch, reason: tuple[str, str]
) -> None:
    name = await made(store)
    await write(store, name, Upsert(whole(1, n=1)), Upsert(whole(2, n=1)))
    before = await store.fetch(name, [1])
    receipt = await write(store, name, patch, Patch(id=2, set={"n": 2}))
    assert reasons(receipt) == {1: reason}
    assert await store.fetch(name, [1]) == before
    assert (await store.fetch(name, [2]))[2].payload == {"n": 2}


async def test_a_patch_that_the_server_refuses_for_its_vectors_has_set_nothing(
    watched: QdrantStore, watch: Watch
) -> None:
    """The collection is not known here, so the server judges."""
    name = await made(watched, 1)
    blind = (grpc.StatusCode.PERMISSION_DENIED, "no")
    watch.look["Get"] = lambda request: blind if _is_about_collections(request) else None
    watched._writing._shapes.clear()
    with pytest.raises(Rejected) as caught:
        await write(watched, name, Patch(id=1, set={"n": 2}, vectors={"nope": floats(1, 1)}))
    assert caught.value.code == "vector-unknown"
    assert (await watched.fetch(name, [1]))[1].payload == {}


def _is_about_collections(request: Any) -> bool:
    return "ids" not in request.DESCRIPTOR.fields_by_name


async def test_a_vector_that_was_added_since_is_taken(
    watched: QdrantStore, watch: Watch
) -> None:
    name = await made(watched, 1)
    watched._writing._shapes[name] = {"s": SHAPES["s"]}
    assert not (await write(watched, name, Upsert(whole(2)))).rejected


@pytest.mark.parametrize(
    "key", ["", " ", ".", "a.b", "a[0]", "a[]", "[", 'say "no"', "x\\y", "é", "a\nb", "a\0b"]
)
async def test_keys_are_set_and_removed_by_just_their_name(
    store: QdrantStore, key: str
) -> None:
    name = await made(store)
    rest = {"a": {"b": 1}, "x": 1}
    await write(store, name, Upsert(whole(1, **rest)))
    await write(store, name, Patch(id=1, set={key: 5}))
    assert (await store.fetch(name, [1]))[1].payload == {**rest, key: 5}
    await write(store, name, Patch(id=1, unset=(key,)))
    assert (await store.fetch(name, [1]))[1].payload == rest


async def test_a_patch_removes_vectors_and_keys_of_a_point_that_is_there(
    store: QdrantStore,
) -> None:
    name = await made(store)
    sparse = SparseVector(b"\x01\0\0\0", floats(1))
    await write(store, name, Upsert(Point(1, {"a": floats(1, 2), "s": sparse}, {"n": 1})))
    receipt = await write(
        store,
        name,
        Patch(id=1, unset_vectors=("s",), unset=("n",)),
        Patch(id=9, unset_vectors=("s",)),
    )
    assert receipt.absent == (9,)
    assert (await store.fetch(name, [1]))[1] == Point(1, {"a": floats(1, 2)}, {})


async def test_patches_of_absent_points_go_together(watched: QdrantStore, watch: Watch) -> None:
    name = await made(watched, 1)
    absent = [Patch(id=number, set={"n": number}) for number in range(100, 600)]
    watch.calls.clear()
    receipt = await write(
        watched, name, Upsert(whole(2)), *absent, Patch(id=1, set={"n": 1}), Delete(3)
    )
    assert sorted(receipt.absent, key=id_order) == list(range(100, 600))
    assert watch.calls["UpdateBatch"] == 2
    found = await watched.fetch(name, [1, 2, *range(100, 600)])
    assert {point_id: point.payload for point_id, point in found.items()} == {
        1: {"n": 1},
        2: {},
    }


async def test_of_patches_with_vectors_the_write_itself_says_which_are_absent(
    watched: QdrantStore, watch: Watch
) -> None:
    name = await made(watched, 1, 2)
    patches = [Patch(id=n, vectors={"a": floats(n, n)}, set={"n": n}) for n in range(1, 41)]

    # A replica that lags: it has not yet seen point 2.
    async def glance(*_: Any) -> dict[PointId, Point]:
        return {1: Point(1, {}, {})}

    watched._writing._reading.glance = glance  # type: ignore[method-assign,assignment]
    receipt = await write(watched, name, *patches)
    assert sorted(receipt.absent, key=id_order) == list(range(3, 41))
    found = await watched.fetch(name, range(1, 41))
    assert found == {n: Point(n, {"a": floats(n, n)}, {"n": n}) for n in (1, 2)}


async def test_an_upsert_above_the_servers_limit_goes_in_parts(
    watched: QdrantStore, watch: Watch
) -> None:
    name = await made(watched)

    def strict(request: Any) -> tuple[grpc.StatusCode, str] | None:
        most = max((len(each.upsert.points) for each in request.operations), default=0)
        if most <= 3:
            return None
        words = f'Limit exceeded {most} > 3 for "upsert limit". Help: Reduce it to 3.'
        return grpc.StatusCode.INVALID_ARGUMENT, words

    watch.look["UpdateBatch"] = strict
    watch.calls.clear()
    assert await write(watched, name, *(Upsert(whole(n)) for n in range(10))) == Receipt()
    assert await watched.count(name) == 10
    await write(watched, name, *(Upsert(whole(n)) for n in range(10, 20)))
    assert watch.calls["UpdateBatch"] == 3


async def test_a_deadline_above_the_servers_is_lowered_to_it(
    watched: QdrantStore, watch: Watch
) -> None:
    name = await made(watched)

    def strict(request: Any) -> tuple[grpc.StatusCode, str] | None:
        if request.timeout <= 7:
            return None
        words = f'Limit exceeded {request.timeout} > 7 for "timeout". Help: Reduce it.'
        return grpc.StatusCode.INVALID_ARGUMENT, words

    for method in ("UpdateBatch", "Scroll", "Count"):
        watch.look[method] = strict
    watch.calls.clear()
    assert await write(watched, name, Upsert(whole(1))) == Receipt()
    assert await watched.count(name) == 1
    assert watch.calls["Count"] == 1  # learned once


async def test_a_collection_that_is_full_buries_no_point(
    watched: QdrantStore, watch: Watch
) -> None:
    name = await made(watched)
    full = (grpc.StatusCode.INVALID_ARGUMENT, "Max points count limit of 10 reached!")
    watch.look["UpdateBatch"] = lambda _: full
    with pytest.raises(Refused) as caught:
        await write(watched, name, Upsert(whole(1)))
    assert caught.value.code == "store-refused"
    assert "Max points count" in caught.value.message


async def test_five_hundred_patches_of_absent_points_are_no_slower_than_of_present_ones(
    store: QdrantStore,
) -> None:
    name = await made(store, *range(500))
    begun = time.perf_counter()
    await write(store, name, *(Patch(id=n, set={"n": 2}) for n in range(500)))
    between = time.perf_counter()
    await write(store, name, *(Patch(id=1000 + n, set={"n": 2}) for n in range(500)))
    assert time.perf_counter() - between < 1 + 5 * (between - begun)
