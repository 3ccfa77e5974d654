"""The double of Pinecone, as the vendor's own client sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from pinecone import AsyncPinecone, RetryConfig
from pinecone._internal.constants import DATA_PLANE_API_VERSION
from pinecone._internal.http_client import AsyncHTTPClient
from pinecone.async_client.async_index import AsyncIndex
from pinecone.errors import exceptions as errors

from replicator.testing.pinecone.faults import Loss, Quota
from replicator.testing.pinecone.limits import DOCUMENTED, Rates
from replicator.testing.pinecone.records import Refusal
from replicator.testing.pinecone.service import PineconeService

ONE = [1.0, 0.0]


class Times:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def connected(
    service: PineconeService, name: str = "articles", **index: Any
) -> AsyncIterator[AsyncIndex]:
    async with service:
        await service.create(name, **{"dimension": 2, **index})
        async with (
            AsyncPinecone(api_key=service.api_key, host=service.url) as client,
            await client.index(name=name) as found,
        ):
            # What the client is told of retries is for the control plane alone.
            config = replace(found._config, retry_config=RetryConfig(max_retries=0))
            found._http = AsyncHTTPClient(config, DATA_PLANE_API_VERSION)
            yield found


@pytest.fixture
async def index() -> AsyncIterator[AsyncIndex]:
    async with connected(PineconeService()) as found:
        yield found


async def test_a_record_comes_back_with_numbers_as_floats(index: AsyncIndex) -> None:
    metadata = {"n": 5, "tags": ["a", "b"], "on": True, "text": "ä"}
    await index.upsert(vectors=[{"id": "a", "values": [1.5, 2], "metadata": metadata}])

    found = await index.fetch(ids=["a", "absent"])

    assert list(found.vectors) == ["a"]
    assert found.vectors["a"].values == [1.5, 2.0]
    assert found.vectors["a"].metadata == {**metadata, "n": 5.0}
    assert isinstance(found.vectors["a"].metadata["n"], float)


@pytest.mark.parametrize(
    "record",
    [
        {"id": "a", "values": [0.0, 0.0]},
        {"id": "a", "values": [1.0]},
        {"id": "a", "values": ONE, "metadata": {"k": None}},
        {"id": "a", "values": ONE, "metadata": {"k": {"deep": 1}}},
        {"id": "a", "values": ONE, "metadata": {"k": [1, 2]}},
        {"id": "a", "values": ONE, "metadata": {"k": "x" * 41_000}},
        {"id": "a", "values": ONE, "metadata": {"$k": "x"}},
        {"id": "a", "values": [1e39, 0.0]},
        {"id": "a\0", "values": ONE},
    ],
    ids=[
        "zero",
        "dimension",
        "null",
        "nested",
        "numbers",
        "large",
        "operator",
        "infinite",
        "nul",
    ],
)
async def test_one_bad_record_refuses_the_whole_upsert(
    index: AsyncIndex, record: dict[str, Any]
) -> None:
    # Past the client's own checks, which are not the service's.
    body = {"vectors": [{"id": "good", "values": ONE}, record]}
    with pytest.raises(errors.ApiError) as refused:
        await index._http.post("/vectors/upsert", json=body)

    assert refused.value.status_code == 400
    assert (await index.fetch(ids=["good"])).vectors == {}


async def test_an_update_sets_and_takes_nothing_away(index: AsyncIndex) -> None:
    await index.upsert(vectors=[{"id": "a", "values": ONE, "metadata": {"k": "x", "l": "y"}}])
    await index.update(id="a", set_metadata={"k": "z"})
    await index.update(id="absent", values=ONE)

    found = await index.fetch(ids=["a", "absent"])

    assert found.vectors["a"].metadata == {"k": "z", "l": "y"}
    assert list(found.vectors) == ["a"]


async def test_a_delete_in_a_namespace_that_is_not_there_is_not_found(
    index: AsyncIndex,
) -> None:
    with pytest.raises(errors.NotFoundError, match="Namespace not found"):
        await index.delete(ids=["a"], namespace="nowhere")

    await index.upsert(vectors=[{"id": "a", "values": ONE}], namespace="somewhere")
    await index.delete(ids=["a", "absent"], namespace="somewhere")
    assert (await index.fetch(ids=["a"], namespace="somewhere")).vectors == {}
    assert (await index.fetch(ids=["a"], namespace="nowhere")).vectors == {}


async def test_ids_are_listed_in_their_order_by_prefix_a_hundred_a_page(
    index: AsyncIndex,
) -> None:
    ids = [f"{letter}{number}" for letter in "ab" for number in range(150)]
    await index.upsert(vectors=[{"id": each, "values": ONE} for each in ids])

    pages = [page async for page in index.list(prefix="a")]

    listed = [each.id for page in pages for each in page.vectors]
    assert listed == sorted(each for each in ids if each.startswith("a"))
    assert len(pages) == 2


async def test_a_write_shows_later_and_searches_say_how_far_they_see() -> None:
    clock = Times()
    service = PineconeService(staleness_s=5.0, clock=clock)
    async with connected(service) as index:
        written = await index.upsert(vectors=[{"id": "a", "values": ONE}])
        assert written.response_info is not None
        lsn = written.response_info.lsn_committed

        before = await index.query(vector=ONE, top_k=1)
        clock.now = 5.0
        after = await index.query(vector=ONE, top_k=1)

        assert lsn == 1
        assert before.matches == []
        assert before.response_info is not None
        assert before.response_info.lsn_reconciled == 0
        assert [match.id for match in after.matches] == ["a"]
        assert after.response_info is not None
        assert after.response_info.lsn_reconciled == lsn
        fetched = await index.fetch(ids=["a"])
        assert fetched.response_info is not None
        assert fetched.response_info.lsn_reconciled is None


async def test_ids_travel_in_the_address_which_has_a_length(index: AsyncIndex) -> None:
    with pytest.raises(errors.ApiError) as refused:
        await index.fetch(ids=[f"{number:0100}" for number in range(500)])

    assert refused.value.status_code == 414


async def test_a_rate_is_told_from_a_quota_by_its_words_and_passes() -> None:
    clock = Times()
    service = PineconeService(rates=Rates(requests_per_namespace=1), clock=clock)
    async with connected(service) as index:
        await index.upsert(vectors=[{"id": "a", "values": ONE}])
        with pytest.raises(errors.RateLimitError) as limited:
            await index.upsert(vectors=[{"id": "a", "values": ONE}])
        await index.upsert(vectors=[{"id": "a", "values": ONE}], namespace="other")
        clock.now = 1.5
        await index.upsert(vectors=[{"id": "a", "values": ONE}])

        service.faults.quota_used.add(Quota.WRITES)
        with pytest.raises(errors.RateLimitError) as used_up:
            await index.delete(ids=["a"])
        await index.fetch(ids=["a"])

    assert "a second" in str(limited.value)
    assert "current month" in str(used_up.value)
    assert DOCUMENTED.updates_per_namespace == 100


@pytest.mark.parametrize("loss", list(Loss))
async def test_a_lost_reply_tells_nothing_of_what_was_done(loss: Loss) -> None:
    service = PineconeService()
    async with connected(service) as index:
        service.faults.strike("upsert", loss)
        with pytest.raises(errors.PineconeConnectionError):
            await index.upsert(vectors=[{"id": "a", "values": ONE}])

        there = "" in service.indexes["articles"].namespaces
        assert there is (loss is Loss.AFTER)


async def test_a_refusal_that_a_test_asks_for_comes_as_often_as_it_asks() -> None:
    service = PineconeService()
    async with connected(service) as index:
        service.faults.strike("upsert", Refusal(403, 7, "QUOTA_EXCEEDED"), times=2)
        for _ in range(2):
            with pytest.raises(errors.ForbiddenError, match="QUOTA_EXCEEDED"):
                await index.upsert(vectors=[{"id": "a", "values": ONE}])
        await index.upsert(vectors=[{"id": "a", "values": ONE}])


async def test_a_wrong_key_is_refused() -> None:
    service = PineconeService()
    async with service:
        await service.create("articles", dimension=2)
        async with AsyncPinecone(api_key="another", host=service.url) as client:
            with pytest.raises(errors.UnauthorizedError):
                await client.indexes.describe("articles")


async def test_namespaces_are_counted_and_go_with_what_they_hold(index: AsyncIndex) -> None:
    await index.upsert(vectors=[{"id": "a", "values": ONE}])
    await index.upsert(vectors=[{"id": each, "values": ONE} for each in "abc"], namespace="n")

    stats = await index.describe_index_stats()
    listed = [each async for page in index.list_namespaces() for each in page.namespaces]
    await index.delete_namespace(name="n")

    assert {name: each.vector_count for name, each in stats.namespaces.items()} == {
        "__default__": 1,
        "n": 3,
    }
    assert [(each.name, each.record_count) for each in listed] == [("__default__", 1), ("n", 3)]
    assert (await index.describe_index_stats()).total_vector_count == 1


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        ({"lang": "de"}, ["a"]),
        ({"lang": {"$ne": "de"}}, ["b", "c"]),
        ({"n": {"$gte": 2}}, ["b", "c"]),
        ({"n": {"$gt": 1, "$lt": 3}}, ["b"]),
        ({"tags": {"$in": ["x"]}}, ["a", "b"]),
        ({"tags": {"$nin": ["x"]}}, ["c"]),
        ({"tags": {"$exists": False}}, ["c"]),
        ({"$or": [{"n": 1}, {"n": 3}]}, ["a", "c"]),
        ({"$and": [{"n": {"$lte": 2}}, {"lang": "en"}]}, ["b"]),
    ],
)
async def test_a_filter_finds(
    index: AsyncIndex, filter_: dict[str, Any], found: list[str]
) -> None:
    rows = [
        {"id": "a", "metadata": {"n": 1, "lang": "de", "tags": ["x", "y"]}},
        {"id": "b", "metadata": {"n": 2, "lang": "en", "tags": ["x"]}},
        {"id": "c", "metadata": {"n": 3, "lang": "en"}},
    ]
    await index.upsert(vectors=[{"values": ONE, **row} for row in rows])

    hits = await index.query(vector=ONE, top_k=10, filter=filter_)
    fetched = await index.fetch_by_metadata(filter=filter_)

    assert [match.id for match in hits.matches] == found
    assert sorted(fetched.vectors) == found


@pytest.mark.parametrize(
    ("metric", "order"), [("cosine", "abc"), ("dotproduct", "bac"), ("euclidean", "acb")]
)
async def test_a_metric_orders_what_is_found(metric: str, order: str) -> None:
    async with connected(PineconeService(), metric=metric) as index:
        rows = {"a": [1.0, 0.0], "b": [3.0, 1.0], "c": [0.5, 0.5]}
        await index.upsert(vectors=[{"id": each, "values": rows[each]} for each in rows])

        hits = await index.query(vector=ONE, top_k=3)

    assert "".join(match.id for match in hits.matches) == order


async def test_a_record_may_be_hybrid_where_the_metric_is_the_dot_product() -> None:
    sparse = {"indices": [7, 3], "values": [2.0, 1.0]}
    async with connected(PineconeService(), metric="dotproduct") as index:
        await index.upsert(
            vectors=[
                {"id": "a", "values": ONE, "sparse_values": sparse},
                {"id": "b", "values": ONE},
            ]
        )

        hits = await index.query(vector=ONE, sparse_vector=sparse, top_k=2, include_values=True)

    assert [(match.id, match.score) for match in hits.matches] == [("a", 6.0), ("b", 1.0)]
    assert hits.matches[0].sparse_values is not None
    assert hits.matches[0].sparse_values.indices == [3, 7]


async def test_an_index_of_sparse_vectors_takes_no_dense_ones() -> None:
    service = PineconeService()
    async with connected(service, dimension=None, metric="dotproduct") as index:
        sparse = {"indices": [1], "values": [1.0]}
        await index.upsert(vectors=[{"id": "a", "sparse_values": sparse}])
        with pytest.raises(errors.ApiError, match="sparse"):
            await index.upsert(vectors=[{"id": "b", "values": ONE}])

        hits = await index.query(sparse_vector=sparse, top_k=5)

    assert [match.id for match in hits.matches] == ["a"]


async def test_a_namespace_may_be_made_before_its_first_record(index: AsyncIndex) -> None:
    await index.create_namespace(name="n")
    with pytest.raises(errors.ConflictError):
        await index.create_namespace(name="n")

    assert (await index.describe_namespace(name="n")).record_count == 0
