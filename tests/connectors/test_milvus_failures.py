"""What a failure of Milvus means, and what a server is asked that milvus-lite does not tell."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import grpc
import pytest

from replicator.connectors.milvus import reading
from replicator.connectors.milvus.wire import wire
from replicator.errors import (
    OutcomeUnknown,
    Refused,
    Rejected,
    ReplicatorError,
    Retryable,
    Unavailable,
)
from replicator.model.record import Chunk
from replicator.model.write import Delete, Upsert, WriteBatch
from replicator.settings.units import Duration
from replicator.testing.store_conformance import scanned, simple
from tests.connectors.milvus_script import TOKEN, Denied, described, rows, scripted, status

Status = grpc.StatusCode
WHOLE = Chunk(0, "docs", "{}")
BATCH = WriteBatch("docs", (Upsert(simple(1)),))


def answer(kind: str, **told: Any) -> Any:
    return getattr(wire(), kind)(status=status(**told))


@pytest.mark.parametrize(
    ("told", "kind", "code"),
    [
        ({"code": 1, "retriable": True}, Unavailable, "store-unavailable"),
        ({"code": 1}, OutcomeUnknown, "outcome-unknown"),
        ({"code": 5}, OutcomeUnknown, "outcome-unknown"),
        ({"code": 65535}, OutcomeUnknown, "outcome-unknown"),
        ({"code": 8, "retriable": True}, Retryable, "store-throttled"),
        ({"code": 11}, Retryable, "store-throttled"),
        ({"code": 9}, Refused, "store-refused"),
        ({"code": 100}, Refused, "target-missing"),
        ({"code": 1401}, Refused, "permission-denied"),
        ({"code": 1100}, Rejected, "target-rejected"),
        ({"code": 1102}, Rejected, "value-too-large"),
        (
            {"code": 65535, "extra_info": {"is_input_error": "true"}},
            Rejected,
            "target-rejected",
        ),
        ({"code": 0, "error_code": 5}, Rejected, "target-rejected"),
        ({"code": 0, "error_code": 49}, Retryable, "store-throttled"),
    ],
)
async def test_a_refused_write_was_carried_out_only_where_nobody_can_say(
    told: dict[str, Any], kind: type[ReplicatorError], code: str
) -> None:
    async with scripted() as (script, store):
        script.answers["Upsert"] = lambda _: answer("MutationResult", **told)
        with pytest.raises(kind) as caught:
            await store.apply(BATCH)
        assert caught.value.code == code
        # OutcomeUnknown is a Retryable too, and means the contrary.
        assert isinstance(caught.value, OutcomeUnknown) is (kind is OutcomeUnknown)
        assert len(script.asked("Upsert")) == 1, "nothing is repeated by itself"


@pytest.mark.parametrize(
    ("told", "kind", "code"),
    [
        ({"code": 5}, Unavailable, "store-unavailable"),
        ({"code": 8}, Retryable, "store-throttled"),
        ({"code": 100}, Refused, "source-missing"),
        ({"code": 1100}, Refused, "store-refused"),
        ({"code": 1800}, Refused, "permission-denied"),
    ],
)
async def test_a_refused_read_blames_no_record(
    told: dict[str, Any], kind: type[ReplicatorError], code: str
) -> None:
    async with scripted() as (script, store):
        script.answers["Query"] = lambda _: answer("QueryResults", **told)
        with pytest.raises(kind) as caught:
            await store.fetch("docs", [1])
        assert caught.value.code == code


async def test_an_upsert_that_went_well_but_for_some_rows_is_unknown() -> None:
    async with scripted() as (script, store):
        reply = answer("MutationResult", code=0)
        reply.err_index.append(0)
        script.answers["Upsert"] = lambda _: reply
        with pytest.raises(OutcomeUnknown):
            await store.apply(BATCH)


async def test_the_token_is_shown_in_no_message_though_the_server_repeats_it() -> None:
    async with scripted() as (script, store):
        words = f"who is {TOKEN}, with the-word?"
        script.answers["Query"] = lambda _: answer("QueryResults", code=1400, reason=words)
        with pytest.raises(Refused) as caught:
            await store.fetch("docs", [1])
        assert "the-word" not in str(caught.value)

        def deny(_: Any) -> Any:
            raise Denied(Status.UNAUTHENTICATED, words)

        script.answers["Query"] = deny
        with pytest.raises(Refused) as caught:
            await store.fetch("docs", [1])
        assert "the-word" not in str(caught.value)


async def test_what_is_asked_at_once_is_strong_and_once() -> None:
    async with scripted() as (script, store):
        script.answers["Query"] = lambda _: rows([1])
        assert (await store.fetch("docs", [1])).keys() == {1}
        [request] = script.asked("Query")
        assert (request.use_default_consistency, request.consistency_level) == (False, 0)
        assert list(request.output_fields) == ["id", "vector", "payload"]


async def test_the_pages_of_a_scan_show_one_moment_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pages = [rows([1, 2], 41), rows([3], 41), rows([4], 41), rows([5], 43), rows([])]
    async with scripted() as (script, store):
        script.answers["Query"] = lambda _: pages.pop(0)
        moments = []
        async for page in store.scan(WHOLE, None, 2):
            moments.append(script.asked("Query")[-1].guarantee_timestamp)
            if page.points and page.points[-1].id == 3:
                monkeypatch.setattr(reading, "MOMENT_S", 0.0)
                await asyncio.sleep(0)
    assert moments == [0, 41, 0, 0, 0]
    last = script.asked("Query")[-1]
    told = {each.key: each.value for each in last.query_params}
    assert told["iterator"] == "True"
    assert told["reduce_stop_for_best"] == "False"
    assert last.expr == "id > 5"


async def test_a_short_page_is_not_the_end_of_a_chunk() -> None:
    pages = [rows([1]), rows([2, 3]), rows([])]
    async with scripted() as (script, store):
        script.answers["Query"] = lambda _: pages.pop(0)
        assert await scanned(store, [WHOLE], 2) == [1, 2, 3]


@pytest.mark.parametrize("keys", [[1, 3, 2], [1, 1], [3, 0]])
async def test_rows_that_do_not_ascend_are_refused_for_the_next_page_would_skip_some(
    keys: list[int],
) -> None:
    async with scripted() as (script, store):
        pages = [rows([1]), rows(keys)]
        script.answers["Query"] = lambda _: pages.pop(0)
        with pytest.raises(Refused, match="order of their keys"):
            await scanned(store, [WHOLE], 3)


async def test_a_reply_that_is_too_large_is_asked_for_in_parts_and_a_point_is_passed_over() -> (
    None
):
    def reply(request: Any) -> Any:
        limit = int({each.key: each.value for each in request.query_params}["limit"])
        after = int(request.expr.rpartition("> ")[2]) if ">" in request.expr else 0
        keys = [key for key in (1, 2, 3) if key > after][:limit]
        if "vector" in request.output_fields and (limit > 1 or keys == [2]):
            raise Denied(Status.RESOURCE_EXHAUSTED, "Received message larger than max")
        return rows(keys)

    async with scripted() as (script, store):
        script.answers["Query"] = reply
        pages = [page async for page in store.scan(WHOLE, None, 4)]
    assert [point.id for page in pages for point in page.points] == [1, 3]
    [row] = [row for page in pages for row in page.rejected]
    assert (row.id, row.error.code) == (2, "value-too-large")


async def test_a_collection_that_is_not_loaded_is_loaded_and_waited_for() -> None:
    states = [2, 3]
    async with scripted() as (script, store):
        replies = [answer("QueryResults", code=101), rows([1])]
        script.answers["Query"] = lambda _: replies.pop(0)
        script.answers["LoadCollection"] = lambda _: wire().Status()
        script.answers["GetLoadState"] = lambda _: wire().GetLoadStateResponse(
            state=states.pop(0)
        )
        assert (await store.fetch("docs", [1])).keys() == {1}
        assert states == []


async def test_a_collection_that_takes_longer_to_load_than_a_request_is_away_for_now() -> None:
    async with scripted(timeout=Duration(0.3)) as (script, store):
        script.answers["Query"] = lambda _: answer("QueryResults", code=101)
        script.answers["LoadCollection"] = lambda _: wire().Status()
        script.answers["GetLoadState"] = lambda _: wire().GetLoadStateResponse(state=2)
        with pytest.raises(Unavailable, match="loading"):
            await store.fetch("docs", [1])


async def test_a_server_without_truncation_is_emptied_row_by_row_after_the_mark_is_gone() -> (
    None
):
    def unknown(_: Any) -> Any:
        raise Denied(Status.UNIMPLEMENTED, "unknown method TruncateCollection")

    async with scripted() as (script, store):
        marked = described()
        marked.properties.add(key="replicator.mark", value="{}")
        script.answers["DescribeCollection"] = lambda _: marked
        script.answers["AlterCollection"] = lambda _: wire().Status()
        script.answers["TruncateCollection"] = unknown
        script.answers["Delete"] = lambda _: wire().MutationResult()
        await store.wipe("docs")
        methods = [method for method, _ in script.requests]
        assert methods.index("AlterCollection") < methods.index("Delete")
        [alteration] = script.asked("AlterCollection")
        # Properties and keys to delete are not taken together.
        assert (list(alteration.delete_keys), len(alteration.properties)) == (
            ["replicator.mark"],
            0,
        )
        assert script.asked("Delete")[0].expr == "id <= 9223372036854775807"


async def test_a_mark_of_a_collection_that_was_restored_vouches_for_nothing() -> None:
    told = '{"capture_id":"one","epoch":2,"incarnation":3,"collection":7}'
    async with scripted() as (script, store):
        script.answers["Query"] = lambda _: counted(0)
        for number, expected in ((7, ("one", 2, 3)), (8, (None, 0, 0))):
            marked = described(collectionID=number)
            marked.properties.add(key="replicator.mark", value=told)
            script.answers["DescribeCollection"] = partial(_given, marked)
            found = await store.describe("docs")
            assert found is not None
            assert (found.capture_id, found.mark_epoch, found.mark_incarnation) == expected


def _given(reply: Any, _: Any) -> Any:
    return reply


async def test_nothing_is_deleted_first_on_a_whole_milvus() -> None:
    async with scripted() as (script, store):
        dynamic = described()
        del dynamic.schema.fields[2]
        dynamic.schema.enable_dynamic_field = True
        script.answers["DescribeCollection"] = lambda _: dynamic
        script.answers["Upsert"] = lambda _: wire().MutationResult()
        script.answers["Delete"] = lambda _: wire().MutationResult()
        await store.apply(WriteBatch("docs", (Upsert(simple(1, x=1)), Delete(2))))
        assert [each.expr for each in script.asked("Delete")] == ["id in [2]"]
        assert script.asked("Upsert")[0].partial_update is False


def counted(number: int) -> Any:
    reply = wire().QueryResults()
    reply.fields_data.add(field_name="count(*)", type=5).scalars.long_data.data.append(number)
    return reply
