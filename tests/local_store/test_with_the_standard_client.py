"""The server answers qdrant-client's own client as a Qdrant server does."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from qdrant_client import AsyncQdrantClient
from qdrant_client import models as m
from qdrant_client.common.client_exceptions import QdrantException

NAME = "books"
UUID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


@pytest.fixture
async def books(client: AsyncQdrantClient) -> AsyncQdrantClient:
    """A collection with vectors of every kind."""
    await client.create_collection(
        NAME,
        vectors_config={
            "cosine": m.VectorParams(size=3, distance=m.Distance.COSINE),
            "dot": m.VectorParams(size=2, distance=m.Distance.DOT),
            "multi": m.VectorParams(
                size=2,
                distance=m.Distance.DOT,
                multivector_config=m.MultiVectorConfig(
                    comparator=m.MultiVectorComparator.MAX_SIM
                ),
            ),
        },
        sparse_vectors_config={"words": m.SparseVectorParams(modifier=m.Modifier.IDF)},
        metadata={"owner": "search", "nested": {"n": [1, None]}},
    )
    await client.upsert(
        NAME,
        [
            m.PointStruct(
                id=1,
                vector={
                    "cosine": [3.0, 4.0, 0.0],
                    "dot": [1.0, 2.0],
                    "multi": [[1.0, 2.0], [3.0, 4.0]],
                    "words": m.SparseVector(indices=[9, 2], values=[0.5, 0.25]),
                },
                payload={"n": 1, "title": "one", "tags": ["a", "b"]},
            ),
            m.PointStruct(id=2, vector={"dot": [5.0, 6.0]}, payload={"n": 2}),
            m.PointStruct(id=UUID, vector={}, payload={"n": None}),
        ],
        wait=True,
    )
    return client


async def payloads(client: AsyncQdrantClient) -> dict[Any, Any]:
    records, _ = await client.scroll(NAME, limit=100)
    return {record.id: record.payload for record in records}


async def test_points_come_back_normalised_and_sorted(books: AsyncQdrantClient) -> None:
    (record,) = await books.retrieve(NAME, [1, 99], with_vectors=True)
    vectors: Any = record.vector
    assert vectors["cosine"] == pytest.approx([0.6, 0.8, 0])
    assert vectors["dot"] == [1, 2]
    assert vectors["multi"] == [[1, 2], [3, 4]]
    assert vectors["words"] == m.SparseVector(indices=[2, 9], values=[0.25, 0.5])
    assert record.payload == {"n": 1, "title": "one", "tags": ["a", "b"]}
    (record,) = await books.retrieve(
        NAME, [1], with_vectors=["dot"], with_payload=m.PayloadSelectorInclude(include=["n"])
    )
    assert (record.vector, record.payload) == ({"dot": [1.0, 2.0]}, {"n": 1})
    (record,) = await books.retrieve(
        NAME, [1], with_payload=m.PayloadSelectorExclude(exclude=["n", "tags"])
    )
    assert (record.vector, record.payload) == (None, {"title": "one"})


async def test_scrolling_goes_by_id_numbers_first(books: AsyncQdrantClient) -> None:
    records, following = await books.scroll(NAME, limit=2)
    assert ([record.id for record in records], following) == ([1, 2], UUID)
    records, following = await books.scroll(NAME, limit=2, offset=following)
    assert ([record.id for record in records], following) == ([UUID], None)
    only = m.Filter(must=[m.FieldCondition(key="n", range=m.Range(gte=2))])
    records, _ = await books.scroll(NAME, scroll_filter=only)
    assert [record.id for record in records] == [2]


async def test_payloads_are_set_overwritten_removed_and_cleared(
    books: AsyncQdrantClient,
) -> None:
    await books.set_payload(NAME, {"a": {"b": 1}}, points=[1, 2])
    await books.set_payload(NAME, {"c": 2}, points=[1], key="a")
    await books.delete_payload(NAME, ["tags", "title"], points=[1])
    assert (await payloads(books))[1] == {"n": 1, "a": {"b": 1, "c": 2}}
    await books.overwrite_payload(NAME, {"new": True}, points=[2])
    await books.clear_payload(NAME, points_selector=[UUID])
    assert await payloads(books) == {
        1: {"n": 1, "a": {"b": 1, "c": 2}},
        2: {"new": True},
        UUID: {},
    }
    only = m.Filter(must=[m.FieldCondition(key="n", match=m.MatchValue(value=1))])
    await books.set_payload(NAME, {"hit": 1}, points=only)
    assert (await payloads(books))[1]["hit"] == 1


async def test_vectors_are_updated_and_removed(books: AsyncQdrantClient) -> None:
    await books.update_vectors(NAME, [m.PointVectors(id=2, vector={"multi": [[7.0, 8.0]]})])
    await books.delete_vectors(NAME, ["dot"], points=[2])
    (record,) = await books.retrieve(NAME, [2], with_vectors=True)
    assert record.vector == {"multi": [[7.0, 8.0]]}


async def test_points_are_deleted_by_id_and_by_filter(books: AsyncQdrantClient) -> None:
    await books.delete(NAME, points_selector=[1, 99])
    assert (await books.count(NAME)).count == 2
    only = m.Filter(must=[m.HasIdCondition(has_id=[UUID])])
    await books.delete(NAME, points_selector=m.FilterSelector(filter=only))
    assert (await payloads(books)).keys() == {2}


async def test_a_conditional_upsert_of_an_absent_id_inserts_it(
    books: AsyncQdrantClient,
) -> None:
    never = m.Filter(must=[m.FieldCondition(key="n", match=m.MatchValue(value=77))])
    points = [
        m.PointStruct(id=1, vector={}, payload={"changed": True}),
        m.PointStruct(id=50, vector={}, payload={"resurrected": True}),
    ]
    await books.upsert(NAME, points, update_filter=never)
    found = await payloads(books)
    assert "changed" not in found[1]
    assert found[50] == {"resurrected": True}


async def test_searches_by_vector_by_point_and_at_random(books: AsyncQdrantClient) -> None:
    near = await books.query_points(NAME, query=[1.0, 0.0], using="dot", limit=5)
    assert [(hit.id, hit.score) for hit in near.points] == [(2, 5.0), (1, 1.0)]
    near = await books.query_points(NAME, query=1, using="dot", with_payload=True)
    assert [(hit.id, hit.payload) for hit in near.points] == [(2, {"n": 2})]
    near = await books.query_points(
        NAME, query=m.SparseVector(indices=[2], values=[1]), using="words"
    )
    assert [hit.id for hit in near.points] == [1]
    drawn = await books.query_points(NAME, query=m.SampleQuery(sample=m.Sample.RANDOM))
    assert {hit.id for hit in drawn.points} == {1, 2, UUID}
    first = await books.query_points(NAME, limit=2)
    assert [hit.id for hit in first.points] == [1, 2]


async def test_a_collection_says_what_it_is(books: AsyncQdrantClient) -> None:
    await books.create_payload_index(NAME, "n", m.PayloadSchemaType.INTEGER)
    await books.create_payload_index(
        NAME, "title", m.KeywordIndexParams(type=m.KeywordIndexType.KEYWORD)
    )
    info = await books.get_collection(NAME)
    assert info.status is m.CollectionStatus.GREEN
    assert info.points_count == 3
    assert {name: index.data_type.value for name, index in info.payload_schema.items()} == {
        "n": "integer",
        "title": "keyword",
    }
    assert info.config.metadata == {"owner": "search", "nested": {"n": [1, None]}}
    vectors: Any = info.config.params.vectors
    assert vectors["cosine"].size == 3
    assert info.config.params.sparse_vectors is not None
    await books.delete_payload_index(NAME, "n")
    assert (await books.get_collection(NAME)).payload_schema.keys() == {"title"}


async def test_metadata_is_merged_key_by_key_and_null_removes(
    books: AsyncQdrantClient,
) -> None:
    await books.update_collection(NAME, metadata={"owner": None, "nested": {"m": 1}, "new": 1})
    config = (await books.get_collection(NAME)).config
    assert config.metadata == {"nested": {"m": 1}, "new": 1}


async def test_a_collection_is_listed_until_it_is_deleted(books: AsyncQdrantClient) -> None:
    assert await books.collection_exists(NAME)
    assert [each.name for each in (await books.get_collections()).collections] == [NAME]
    assert await books.delete_collection(NAME)
    assert not await books.delete_collection(NAME)
    assert not await books.collection_exists(NAME)
    await refused(books.get_collection(NAME), grpc.StatusCode.NOT_FOUND, "doesn't exist")
    await refused(books.count(NAME), grpc.StatusCode.NOT_FOUND, "doesn't exist")


async def test_aliases_change_all_at_once_or_not_at_all(books: AsyncQdrantClient) -> None:
    def create(collection: str, alias: str) -> m.CreateAliasOperation:
        return m.CreateAliasOperation(
            create_alias=m.CreateAlias(collection_name=collection, alias_name=alias)
        )

    async def aliases() -> dict[str, str]:
        found = (await books.get_aliases()).aliases
        return {each.alias_name: each.collection_name for each in found}

    await books.create_collection("other", m.VectorParams(size=1, distance=m.Distance.DOT))
    await books.update_collection_aliases([create(NAME, "live")])
    assert (await books.count("live")).count == 3
    delete = m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name="live"))
    await books.update_collection_aliases(
        [delete, create("other", "live"), create(NAME, "old")]
    )
    assert await aliases() == {"live": "other", "old": NAME}
    await refused(
        books.update_collection_aliases([create("other", "old"), create("missing", "x")]),
        grpc.StatusCode.NOT_FOUND,
        "Collection `missing` doesn't exist",
    )
    assert await aliases() == {"live": "other", "old": NAME}
    rename = m.RenameAliasOperation(
        rename_alias=m.RenameAlias(old_alias_name="old", new_alias_name="older")
    )
    await books.update_collection_aliases([rename])
    assert [each.alias_name for each in (await books.get_collection_aliases(NAME)).aliases] == [
        "older"
    ]
    await books.delete_collection("other")
    assert await aliases() == {"older": NAME}


async def refused(call: Any, status: grpc.StatusCode, words: str) -> None:
    with pytest.raises((grpc.aio.AioRpcError, QdrantException)) as caught:
        await call
    assert isinstance(caught.value, grpc.aio.AioRpcError)
    assert caught.value.code() is status
    assert words in (caught.value.details() or "")


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        ({"dot": [1.0, 2.0, 3.0]}, "expected dim: 2, got 3"),
        ({"multi": [[1.0, 2.0], [1.0, 2.0, 3.0]]}, "dimension"),
        ({"nope": [1.0]}, "Not existing vector name"),
        ({"words": [1.0]}, "Conversion between sparse and regular"),
        ({"dot": m.SparseVector(indices=[1], values=[1])}, "Conversion between sparse"),
        ({"dot": [[1.0, 2.0]]}, "Conversion between multi and regular"),
        ({"words": m.SparseVector(indices=[1, 1], values=[1, 2])}, "must be unique"),
        ({"words": m.SparseVector(indices=[1, 2], values=[1])}, "same length"),
        ([1.0, 2.0], "Not existing vector name"),
    ],
)
async def test_a_vector_that_does_not_fit_is_refused_and_changes_nothing(
    books: AsyncQdrantClient, vector: Any, words: str
) -> None:
    bad = [
        m.PointStruct(id=1, vector={}, payload={}),
        m.PointStruct(id=2, vector=vector, payload={}),
    ]
    before = await payloads(books)
    await refused(books.upsert(NAME, bad), INVALID, words)
    assert await payloads(books) == before


async def test_of_several_points_the_present_ones_change_before_the_absent_one_fails(
    books: AsyncQdrantClient,
) -> None:
    await refused(
        books.set_payload(NAME, {"p": 1}, points=[2, 99]), NOT_FOUND, "No point with id 99"
    )
    assert (await payloads(books))[2] == {"n": 2, "p": 1}
    await refused(
        books.delete_payload(NAME, ["p"], points=[99]), NOT_FOUND, "No point with id 99"
    )
    await refused(
        books.update_vectors(NAME, [m.PointVectors(id=99, vector={"dot": [1.0, 2.0]})]),
        NOT_FOUND,
        "No point with id 99",
    )
    await refused(
        books.delete_vectors(NAME, ["dot"], points=[99]), NOT_FOUND, "No point with id 99"
    )


async def test_a_batch_ends_at_the_first_operation_that_fails(books: AsyncQdrantClient) -> None:
    operations: list[m.UpdateOperation] = [
        m.DeleteOperation(delete=m.PointIdsList(points=[1])),
        m.SetPayloadOperation(set_payload=m.SetPayload(payload={"p": 1}, points=[99])),
        m.DeleteOperation(delete=m.PointIdsList(points=[2])),
    ]
    await refused(books.batch_update_points(NAME, operations), NOT_FOUND, "No point with id")
    assert (await payloads(books)).keys() == {2, UUID}


async def test_a_write_that_is_not_waited_for_is_only_acknowledged(
    books: AsyncQdrantClient,
) -> None:
    result = await books.delete(NAME, points_selector=[1], wait=False)
    assert result.status is m.UpdateStatus.ACKNOWLEDGED
    # Writes go in turn, so the next one comes after it.
    result = await books.delete(NAME, points_selector=[99], wait=True)
    assert result.status is m.UpdateStatus.COMPLETED
    assert (await payloads(books)).keys() == {2, UUID}


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.facet(NAME, "n"),
        lambda client: client.list_snapshots(NAME),
        lambda client: client.query_points_groups(NAME, "n", query=[1.0, 2.0], using="dot"),
        lambda client: client.scroll(NAME, order_by="n"),
        lambda client: client.query_points(NAME, query=m.OrderByQuery(order_by="n")),
        lambda client: client.count(
            NAME,
            m.Filter(
                must=[
                    m.FieldCondition(
                        key="at",
                        geo_radius=m.GeoRadius(center=m.GeoPoint(lon=0, lat=0), radius=1),
                    )
                ]
            ),
        ),
    ],
    ids=["facet", "snapshots", "groups", "order_by scroll", "order_by query", "geo"],
)
async def test_what_the_server_lacks_is_answered_with_unimplemented(
    books: AsyncQdrantClient, call: Any
) -> None:
    await refused(call(books), grpc.StatusCode.UNIMPLEMENTED, "local store server")
