"""Strict mode refuses what a server refuses, in its words; and configurations are kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from qdrant_client import AsyncQdrantClient
from qdrant_client import models as m

from replicator.local_store import LocalStoreServer
from tests.local_store.conftest import client_of

NAME = "limited"
REFUSED = grpc.StatusCode.INVALID_ARGUMENT
LIMITED = grpc.StatusCode.RESOURCE_EXHAUSTED
CONDITION = m.FieldCondition(key="n", match=m.MatchValue(value=1))
ANY = m.Filter(must=[CONDITION])


async def limited(client: AsyncQdrantClient, **limits: Any) -> None:
    """Ten points, an index on `kind`, and these limits in force from then on."""
    await client.create_collection(
        NAME,
        vectors_config={
            "v": m.VectorParams(size=2, distance=m.Distance.DOT),
            "rows": m.VectorParams(
                size=2,
                distance=m.Distance.DOT,
                multivector_config=m.MultiVectorConfig(
                    comparator=m.MultiVectorComparator.MAX_SIM
                ),
            ),
        },
        sparse_vectors_config={"s": m.SparseVectorParams()},
    )
    await client.create_payload_index(NAME, "kind", m.PayloadSchemaType.KEYWORD, wait=True)
    await client.upsert(NAME, points(10), wait=True)
    await client.update_collection(
        NAME, strict_mode_config=m.StrictModeConfig(enabled=True, **limits)
    )


def points(count: int) -> list[m.PointStruct]:
    return [
        m.PointStruct(id=number, vector={"v": [1.0, number]}, payload={"n": number})
        for number in range(1, count + 1)
    ]


async def status_of(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await call
    error = caught.value
    found = error if isinstance(error, grpc.aio.AioRpcError) else error.__cause__
    assert isinstance(found, grpc.aio.AioRpcError), repr(error)
    return found


@pytest.mark.parametrize(
    ("limits", "call", "words"),
    [
        (
            {"max_query_limit": 5},
            lambda c: c.scroll(NAME, limit=6),
            'Bad request: Limit exceeded 6 > 5 for "limit". Help: Reduce the "limit" parameter'
            " to or below 5.",
        ),
        (
            {"max_query_limit": 5},
            lambda c: c.query_points(NAME, query=[1.0, 2.0], using="v", limit=6),
            'Limit exceeded 6 > 5 for "limit"',
        ),
        (
            {"max_timeout": 3},
            lambda c: c.scroll(NAME, limit=1, timeout=4),
            'Limit exceeded 4 > 3 for "timeout"',
        ),
        (
            {"upsert_max_batchsize": 2},
            lambda c: c.upsert(NAME, points(3)),
            'Limit exceeded 3 > 2 for "upsert limit"',
        ),
        (
            {"upsert_max_batchsize": 2},
            lambda c: c.batch_update_points(
                NAME,
                [m.UpsertOperation(upsert=m.PointsList(points=points(3)))],
            ),
            'Limit exceeded 3 > 2 for "upsert limit"',
        ),
        (
            {"unindexed_filtering_retrieve": False},
            lambda c: c.scroll(NAME, ANY),
            'Index required but not found for "n"',
        ),
        (
            {"unindexed_filtering_update": False},
            lambda c: c.delete(NAME, m.FilterSelector(filter=ANY)),
            'Index required but not found for "n"',
        ),
        (
            {"search_allow_exact": False},
            lambda c: c.count(NAME, exact=True),
            "Exact search disabled!. Help: Set exact=false.",
        ),
        (
            {"max_points_count": 10},
            lambda c: c.upsert(NAME, points(1)),
            "Max points count limit of 10 reached!",
        ),
        (
            {"max_collection_vector_size_bytes": 50},
            lambda c: c.upsert(NAME, points(1)),
            "Max vector storage size limit of",
        ),
        (
            {"max_collection_payload_size_bytes": 5},
            lambda c: c.upsert(NAME, points(1)),
            "Max payload storage size limit of",
        ),
        (
            {"filter_max_conditions": 1},
            lambda c: c.scroll(NAME, m.Filter(must=[CONDITION, CONDITION])),
            "Filter condition limit reached (2 > 1)",
        ),
        (
            {"max_payload_index_count": 1},
            lambda c: c.create_payload_index(NAME, "n", m.PayloadSchemaType.INTEGER),
            "maximum number of payload indices (1)",
        ),
        (
            {"multivector_config": {"rows": m.StrictModeMultivector(max_vectors=1)}},
            lambda c: c.upsert(
                NAME,
                [m.PointStruct(id=1, vector={"rows": [[1.0, 2.0], [3.0, 4.0]]}, payload={})],
            ),
            "Multivector 'rows' has a limit of 1 vectors, but 2 were provided!",
        ),
        (
            {"sparse_config": {"s": m.StrictModeSparse(max_length=1)}},
            lambda c: c.upsert(
                NAME,
                [
                    m.PointStruct(
                        id=1,
                        vector={"s": m.SparseVector(indices=[1, 2], values=[1, 2])},
                        payload={},
                    )
                ],
            ),
            "Sparse vector 's' has a limit of 1 indices, but 2 were provided!",
        ),
    ],
)
async def test_a_request_beyond_a_limit_is_refused(
    client: AsyncQdrantClient, limits: dict[str, Any], call: Any, words: str
) -> None:
    await limited(client, **limits)
    error = await status_of(call(client))
    assert error.code() is REFUSED
    assert words in (error.details() or "")
    # Strict mode that is switched off limits nothing.
    await client.update_collection(NAME, strict_mode_config=m.StrictModeConfig(enabled=False))
    await call(client)


async def test_a_request_within_the_limits_is_answered(client: AsyncQdrantClient) -> None:
    await limited(
        client, max_query_limit=5, unindexed_filtering_retrieve=False, upsert_max_batchsize=2
    )
    found, _ = await client.scroll(NAME, limit=5)
    assert len(found) == 5
    kinds = m.Filter(must=[m.FieldCondition(key="kind", match=m.MatchValue(value="x"))])
    assert (await client.count(NAME, kinds)).count == 0
    await client.upsert(NAME, points(2))


async def test_writes_beyond_the_rate_wait_and_those_that_never_fit_are_told_so(
    client: AsyncQdrantClient,
) -> None:
    await limited(client, write_rate_limit=60)
    await client.upsert(NAME, points(50))
    error = await status_of(client.upsert(NAME, points(50)))
    assert error.code() is LIMITED
    assert "Write rate limit exceeded: Operation requires 50 tokens but only 1" in (
        error.details() or ""
    )
    after = dict(error.trailing_metadata() or ()).get("retry-after")
    assert after is not None
    assert 35 <= int(after) <= 40
    never = await status_of(client.upsert(NAME, points(61)))
    assert never.code() is LIMITED
    assert "please try to split your request" in (never.details() or "")
    assert "retry-after" not in dict(never.trailing_metadata() or ())


async def test_reads_are_limited_by_requests_and_fetches_by_points(
    client: AsyncQdrantClient,
) -> None:
    await limited(client, read_rate_limit=3)
    await client.scroll(NAME)
    await client.retrieve(NAME, [1, 2])
    error = await status_of(client.scroll(NAME))
    assert error.code() is LIMITED
    assert "Read rate limit exceeded" in (error.details() or "")


async def test_everything_of_a_collection_survives_a_restart(tmp_path: Path) -> None:
    async with LocalStoreServer(tmp_path) as server:
        client = client_of(server)
        await limited(client, max_query_limit=5)
        await client.create_payload_index(
            NAME,
            "body",
            m.TextIndexParams(
                type=m.TextIndexType.TEXT, tokenizer=m.TokenizerType.WHITESPACE, lowercase=False
            ),
            wait=True,
        )
        await client.update_collection(
            NAME,
            vectors_config={"v": m.VectorParamsDiff(on_disk=True)},
            quantization_config=m.BinaryQuantization(
                binary=m.BinaryQuantizationConfig(always_ram=True)
            ),
            collection_params=m.CollectionParamsDiff(read_fan_out_factor=2),
            metadata={"owner": "me"},
        )
        before = await client.get_collection(NAME)
        await client.close()
    async with LocalStoreServer(tmp_path) as server:
        client = client_of(server)
        after = await client.get_collection(NAME)
        assert after.config == before.config
        assert after.payload_schema == before.payload_schema
        assert after.config.params.read_fan_out_factor == 2
        assert after.payload_schema["body"].params is not None
        assert (await status_of(client.scroll(NAME, limit=6))).code() is REFUSED
        await client.close()


async def test_a_text_index_answers_by_its_own_parameters(client: AsyncQdrantClient) -> None:
    await limited(client)
    await client.set_payload(NAME, {"body": "Red fox"}, points=[1])
    asked = m.Filter(must=[m.FieldCondition(key="body", match=m.MatchText(text="red"))])
    for lowercase, hits in ((True, 1), (False, 0)):
        await client.delete_payload_index(NAME, "body")
        await client.create_payload_index(
            NAME,
            "body",
            m.TextIndexParams(
                type=m.TextIndexType.TEXT,
                tokenizer=m.TokenizerType.WORD,
                lowercase=lowercase,
            ),
            wait=True,
        )
        assert (await client.count(NAME, asked)).count == hits


@pytest.mark.parametrize("depth", [24, 25, 26, 30])
async def test_a_payload_that_is_accepted_can_be_read_back(
    client: AsyncQdrantClient, depth: int
) -> None:
    await limited(client)
    nested: Any = 1
    for _ in range(depth):
        nested = {"n": nested}
    point = m.PointStruct(id=99, vector={"v": [1.0, 2.0]}, payload={"x": nested})
    writes: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: client.upsert(NAME, [point]),
        lambda: client.set_payload(NAME, {"x": nested}, points=[1]),
        lambda: client.overwrite_payload(NAME, {"x": nested}, points=[2]),
        lambda: client.set_payload(NAME, {"x": nested}, points=[3], key="a.b"),
    )
    for number, write in enumerate(writes):
        if depth + (2 if number == 3 else 0) <= 24:
            await write()
        else:
            error = await status_of(write())
            assert error.code() is REFUSED
            assert "is nested deeper than 24" in (error.details() or "")
    found, _ = await client.scroll(NAME, limit=100)
    assert len(found) == (11 if depth <= 24 else 10)
