"""What goes wrong between the connector and Pinecone, and what each means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from replicator.connectors.pinecone.kind import PineconeSettings
from replicator.connectors.pinecone.store import PineconeStore
from replicator.errors import (
    OutcomeUnknown,
    Refused,
    Rejected,
    ReplicatorError,
    Retryable,
    Unavailable,
)
from replicator.model.finding import Severity
from replicator.model.point import Point
from replicator.model.search import Query
from replicator.model.write import Delete, Upsert, WriteBatch
from replicator.settings.units import Duration, Secret
from replicator.testing.pinecone.faults import Loss, Quota
from replicator.testing.pinecone.records import Refusal
from replicator.testing.pinecone.service import PineconeService
from replicator.testing.store_conformance import floats

UPSERT = WriteBatch("", (Upsert(Point("a", {"": floats(1, 2)}, {})),))
DELETE = WriteBatch("", (Delete("a"),))

Call = Callable[[PineconeStore], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "upsert": lambda store: store.apply(UPSERT),
    "delete": lambda store: store.apply(DELETE),
    "fetch": lambda store: store.fetch("", ["a"]),
    "list": lambda store: store._index.ids("", "", None, 9),
    "query": lambda store: store.search("", Query(floats(1, 2))),
    "namespaces": lambda store: store.collections(),
}
WRITES = {"upsert", "delete"}


def settings(service: PineconeService, **more: Any) -> PineconeSettings:
    return PineconeSettings(
        index="articles", control=service.url, api_key=Secret(service.api_key), **more
    )


@pytest.fixture
async def service() -> AsyncIterator[PineconeService]:
    async with PineconeService() as found:
        await found.create("articles", dimension=2)
        yield found


@pytest.fixture
async def store(service: PineconeService) -> AsyncIterator[PineconeStore]:
    """Connected, with a record."""
    found = PineconeStore(settings(service))
    await found.apply(UPSERT)
    yield found
    await found.close()


async def failing(store: PineconeStore, what: str) -> ReplicatorError:
    with pytest.raises(ReplicatorError) as failed:
        await CALLS[what](store)
    return failed.value


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("what", CALLS)
async def test_a_lost_reply_is_an_unknown_outcome_of_a_write_and_sent_once(
    store: PineconeStore, service: PineconeService, what: str, loss: Loss
) -> None:
    service.faults.strike(what, loss)
    error = await failing(store, what)
    if what in WRITES:
        assert (type(error), error.code) == (OutcomeUnknown, "outcome-unknown")
    else:
        assert (type(error), error.code) == (Unavailable, "store-unavailable")
    # Whoever had sent it twice would have been answered the second time.
    await CALLS[what](store)


@pytest.mark.parametrize("what", CALLS)
async def test_too_many_requests_a_second_pass_and_are_tried_when_it_is_said(
    store: PineconeStore, service: PineconeService, what: str
) -> None:
    service.faults.strike(what, Refusal(429, 8, "Too many requests", retry_after_s=7))
    error = await failing(store, what)
    assert (type(error), error.code) == (Retryable, "store-throttled")
    assert isinstance(error, Retryable)
    assert error.retry_after_s == 7
    service.faults.strike(what, Refusal(429, 8, "Too many requests"))
    error = await failing(store, what)
    assert isinstance(error, Retryable)
    assert error.retry_after_s is None


@pytest.mark.parametrize(
    ("quota", "what"),
    [(Quota.WRITES, "upsert"), (Quota.WRITES, "delete"), (Quota.READS, "fetch")],
)
async def test_the_units_of_a_month_are_refused_at_once_with_what_to_do(
    store: PineconeStore, service: PineconeService, quota: Quota, what: str
) -> None:
    service.faults.quota_used.add(quota)
    error = await failing(store, what)
    assert (type(error), error.code) == (Refused, "quota-exceeded")
    assert "wait for the next month" in error.message


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize(
    ("refusal", "kind", "code"),
    [
        (Refusal(403, 7, "QUOTA_EXCEEDED: too many namespaces"), Refused, "quota-exceeded"),
        (Refusal(402, 7, "Payment required"), Refused, "quota-exceeded"),
        (Refusal(403, 7, "Forbidden"), Refused, "permission-denied"),
        (Refusal(401, 16, "Invalid API Key"), Refused, "permission-denied"),
        (Refusal(412, 9, "This index takes documents"), Refused, "unsupported"),
    ],
)
async def test_what_a_person_must_mend_is_refused(
    store: PineconeStore,
    service: PineconeService,
    what: str,
    refusal: Refusal,
    kind: type[ReplicatorError],
    code: str,
) -> None:
    service.faults.strike(what, refusal)
    error = await failing(store, what)
    assert (type(error), error.code) == (kind, code)


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_a_service_that_fails_leaves_the_outcome_of_a_write_open(
    store: PineconeStore, service: PineconeService, what: str, status: int
) -> None:
    service.faults.strike(what, Refusal(status, 13, "unavailable"))
    error = await failing(store, what)
    assert type(error) is (OutcomeUnknown if what in WRITES else Unavailable)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refusal(400, 3, "Sparse vector exceeds 1000 values"), "target-rejected"),
        (Refusal(400, 3, "Vector dimension 3 does not match"), "vector-dimension"),
        (Refusal(413, 3, "Payload Too Large"), "value-too-large"),
    ],
)
async def test_a_batch_that_is_refused_is_cut_until_the_record_stands_alone(
    store: PineconeStore, service: PineconeService, refusal: Refusal, code: str
) -> None:
    service.faults.strike("upsert", refusal)
    error = await failing(store, "upsert")
    assert (type(error), error.code) == (Rejected, code)


async def test_a_read_that_is_refused_is_no_record_s_fault(
    store: PineconeStore, service: PineconeService
) -> None:
    service.faults.strike("fetch", Refusal(400, 3, "bad request"))
    error = await failing(store, "fetch")
    assert (type(error), error.code) == (Refused, "store-refused")


async def test_an_index_that_goes_is_missing(
    store: PineconeStore, service: PineconeService
) -> None:
    for what, code in (("upsert", "target-missing"), ("fetch", "source-missing")):
        service.faults.strike(what, Refusal(404, 5, "Index not found"))
        error = await failing(store, what)
        assert (type(error), error.code) == (Refused, code)


async def test_an_index_that_is_not_there_and_a_wrong_key_are_findings(
    service: PineconeService,
) -> None:
    for told, code in (
        ({"index": "other"}, "source-missing"),
        ({"index": "articles", "api_key": Secret("wrong")}, "permission-denied"),
        ({"index": "articles", "control": "http://127.0.0.1:9"}, "store-unavailable"),
    ):
        given: dict[str, Any] = {
            "control": service.url,
            "api_key": Secret(service.api_key),
            **told,
        }
        store = PineconeStore(PineconeSettings(**given))
        [finding] = await store.check()
        assert (finding.severity, finding.code) == (Severity.BLOCKS, code)
        await store.close()


async def test_nobody_who_answers_was_sent_nothing(service: PineconeService) -> None:
    gone = PineconeSettings(host="http://127.0.0.1:9", api_key=Secret("k"))
    store = PineconeStore(gone)
    with pytest.raises(ReplicatorError) as failed:
        await store._index.upsert("", [{"id": "a", "values": [1.0, 2.0]}])
    assert type(failed.value) is Unavailable
    await store.close()


async def test_a_service_that_is_silent_is_not_waited_for_longer_than_told() -> None:
    connections: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        connections.append(writer)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    told = PineconeSettings(
        host=f"http://127.0.0.1:{port}", api_key=Secret("k"), timeout=Duration(0.1)
    )
    store = PineconeStore(told)
    with pytest.raises(ReplicatorError) as failed:
        await store._index.upsert("", [{"id": "a", "values": [1.0, 2.0]}])
    assert type(failed.value) is OutcomeUnknown
    assert type(await failing(store, "fetch")) is Unavailable
    await store.close()
    server.close()
    for connection in connections:
        connection.close()
        await connection.wait_closed()
    await server.wait_closed()


async def test_what_is_asked_after_the_end_is_not_sent(store: PineconeStore) -> None:
    await store.close()
    assert type(await failing(store, "upsert")) is Unavailable


async def test_of_two_who_make_a_namespace_neither_fails(
    store: PineconeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    has = store._index.has
    looks: list[bool] = []

    async def late(namespace: str) -> bool:
        looks.append(await has(namespace))
        return looks[-1] and len(looks) > 1

    await store._index.make("new")
    monkeypatch.setattr(store._index, "has", late)
    await store._index.make("new")
    assert looks == [True, True]
