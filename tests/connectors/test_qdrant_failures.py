"""What a failure means for a write and for a read, seen on real connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.connectors.qdrant.store import QdrantStore
from replicator.connectors.qdrant.wire import wire
from replicator.errors import (
    OutcomeUnknown,
    Refused,
    Rejected,
    ReplicatorError,
    Retryable,
    Unavailable,
)
from replicator.local_store import LocalStoreServer
from replicator.model.finding import Severity
from replicator.model.write import Upsert, WriteBatch
from replicator.testing.store_conformance import simple

Status = grpc.StatusCode


class Interference(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc is untyped
    """Answers methods otherwise than the server would."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[grpc.aio.ServicerContext], Awaitable[Any]]] = {}

    def refuse(self, method: str, status: Any, words: str, *trailing: tuple[str, str]) -> None:
        async def answer(context: grpc.aio.ServicerContext) -> None:
            await context.abort(status, words, trailing)

        self.answers[method] = answer

    def reply(self, method: str, message: Any) -> None:
        async def answer(_: grpc.aio.ServicerContext) -> Any:
            return message

        self.answers[method] = answer

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        answer = self.answers.get(details.method.rpartition("/")[2])
        if answer is None:
            return handler

        async def instead(_: Any, context: grpc.aio.ServicerContext) -> Any:
            return await answer(context)

        return grpc.unary_unary_rpc_method_handler(
            instead,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


@pytest.fixture
def interference() -> Interference:
    return Interference()


@pytest.fixture
async def interfered(tmp_path: Path, interference: Interference) -> AsyncIterator[QdrantStore]:
    """A store whose server answers as `interference` says."""
    async with LocalStoreServer(tmp_path / "store", interceptors=[interference]) as server:
        store = QdrantStore(QdrantSettings(url=server.url))
        yield store
        await store.close()


async def write_error(store: QdrantStore, collection: str = "books") -> ReplicatorError:
    with pytest.raises(ReplicatorError) as caught:
        await store.apply(WriteBatch(collection, (Upsert(simple(1)),)))
    return caught.value


async def read_error(store: QdrantStore, collection: str = "books") -> ReplicatorError:
    with pytest.raises(ReplicatorError) as caught:
        await store.fetch(collection, [1])
    return caught.value


@pytest.mark.parametrize(
    ("status", "words", "of_write", "of_read"),
    [
        (
            Status.UNAVAILABLE,
            "connection reset",
            (OutcomeUnknown, "outcome-unknown"),
            (Unavailable, "store-unavailable"),
        ),
        (
            Status.DEADLINE_EXCEEDED,
            "Timeout error",
            (OutcomeUnknown, "outcome-unknown"),
            (Unavailable, "store-unavailable"),
        ),
        (
            Status.INTERNAL,
            "Service internal error",
            (OutcomeUnknown, "outcome-unknown"),
            (Unavailable, "store-unavailable"),
        ),
        (
            Status.FAILED_PRECONDITION,
            "replica set is not active",
            (OutcomeUnknown, "outcome-unknown"),
            (Unavailable, "store-unavailable"),
        ),
        (
            Status.PERMISSION_DENIED,
            "read only",
            (Refused, "permission-denied"),
            (Refused, "permission-denied"),
        ),
        (
            Status.UNAUTHENTICATED,
            "no key",
            (Refused, "permission-denied"),
            (Refused, "permission-denied"),
        ),
        (
            Status.UNIMPLEMENTED,
            "unknown method",
            (Refused, "unsupported"),
            (Refused, "unsupported"),
        ),
        (
            Status.NOT_FOUND,
            "Not found: Collection `books` doesn't exist!",
            (Refused, "target-missing"),
            (Refused, "source-missing"),
        ),
        (
            Status.INVALID_ARGUMENT,
            "Wrong input: Vector dimension error: expected dim: 3, got 2",
            (Rejected, "vector-dimension"),
            (Rejected, "vector-dimension"),
        ),
        (
            Status.INVALID_ARGUMENT,
            "Wrong input: Not existing vector name error: x",
            (Rejected, "vector-unknown"),
            (Rejected, "vector-unknown"),
        ),
        (
            Status.INVALID_ARGUMENT,
            "Wrong input: something else",
            (Rejected, "target-rejected"),
            # No record is to blame for a read that is refused.
            (Refused, "store-refused"),
        ),
        (
            Status.INVALID_ARGUMENT,
            "Max points count limit of 10 reached!",
            (Refused, "store-refused"),
            (Refused, "store-refused"),
        ),
        (
            Status.RESOURCE_EXHAUSTED,
            "grpc: received message larger than max (70000000 vs. 67108864)",
            (Rejected, "value-too-large"),
            (Rejected, "value-too-large"),
        ),
        (
            Status.RESOURCE_EXHAUSTED,
            "Rate limiting exceeded: Write rate limit exceeded, request larger than rate"
            " limiter capacity, please try to split your request",
            (Rejected, "value-too-large"),
            (Rejected, "value-too-large"),
        ),
    ],
    ids=lambda value: value.name.lower() if isinstance(value, Status) else None,
)
async def test_a_status_is_translated_by_what_it_says_of_the_write(
    interfered: QdrantStore,
    interference: Interference,
    status: Any,
    words: str,
    of_write: tuple[type, str],
    of_read: tuple[type, str],
) -> None:
    interference.refuse("UpdateBatch", status, words)
    interference.refuse("Get", status, words)
    error = await write_error(interfered)
    assert (type(error), error.code) == of_write
    error = await read_error(interfered)
    assert (type(error), error.code) == of_read


async def test_a_delay_that_is_no_number_is_none(
    interfered: QdrantStore, interference: Interference
) -> None:
    told = ("retry-after", "soon")
    interference.refuse("UpdateBatch", Status.RESOURCE_EXHAUSTED, "Rate limit", told)
    error = await write_error(interfered)
    assert type(error) is Retryable
    assert (error.code, error.retry_after_s) == ("store-throttled", None)


async def test_the_delay_is_read_from_the_words_where_there_is_no_header(
    interfered: QdrantStore, interference: Interference
) -> None:
    words = (
        "Rate limiting exceeded: Write rate limit exceeded: Operation requires 10 tokens but"
        " only 0.0 were available. Retry after 60s"
    )
    interference.refuse("UpdateBatch", Status.RESOURCE_EXHAUSTED, words)
    error = await write_error(interfered)
    assert type(error) is Retryable
    assert error.retry_after_s == 60


async def test_an_error_names_the_server_that_refused(
    interfered: QdrantStore, interference: Interference
) -> None:
    interference.refuse("Get", Status.INVALID_ARGUMENT, "no")
    interference.refuse("UpdateBatch", Status.RESOURCE_EXHAUSTED, "slowly")
    assert "127.0.0.1:" in (await read_error(interfered)).message
    assert "127.0.0.1:" in (await write_error(interfered)).message


@pytest.mark.parametrize("name", ["Acknowledged", "WaitTimeout", "ClockRejected"])
async def test_only_completed_counts_as_written(
    interfered: QdrantStore, interference: Interference, name: str
) -> None:
    reply = wire().UpdateBatchResponse()
    reply.result.add().status = wire().enum("UpdateStatus")[name]
    interference.reply("UpdateBatch", reply)
    error = await write_error(interfered)
    assert type(error) is OutcomeUnknown
    assert name in error.message


async def test_a_reply_that_leaves_out_an_operation_is_no_completion(
    interfered: QdrantStore, interference: Interference
) -> None:
    interference.reply("UpdateBatch", wire().UpdateBatchResponse())
    assert type(await write_error(interfered)) is OutcomeUnknown


async def test_the_check_tells_a_server_that_is_not_there(unused_tcp_port: int) -> None:
    store = QdrantStore(QdrantSettings(url=f"http://127.0.0.1:{unused_tcp_port}"))
    findings = await store.check()
    assert [(each.severity, each.code) for each in findings] == [
        (Severity.BLOCKS, "store-unavailable")
    ]
    await store.close()


async def test_a_name_that_does_not_resolve_was_sent_nothing() -> None:
    store = QdrantStore(QdrantSettings(url="http://no-such-host.invalid:6334"))
    assert type(await write_error(store)) is Unavailable
    await store.close()


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("1.15.4", ["keeps no collection metadata"]),
        ("1.16.0", ["no timeout of writes"]),
        ("1.17.0", []),
        ("2.0.0-dev", []),
        ("dev", []),
    ],
)
async def test_the_check_names_what_an_old_server_lacks(
    interfered: QdrantStore, interference: Interference, version: str, words: list[str]
) -> None:
    interference.reply("HealthCheck", wire().HealthCheckReply(version=version))
    findings = await interfered.check()
    assert [(each.severity, each.code) for each in findings] == (
        [(Severity.WARNS, "unsupported")] if words else []
    )
    assert all(word in each.message for word, each in zip(words, findings, strict=True))


async def test_the_check_tells_a_key_that_may_only_read(
    interfered: QdrantStore, interference: Interference
) -> None:
    interference.refuse("UpdateAliases", Status.PERMISSION_DENIED, "Global manage access")
    assert await interfered.check() == []
    (finding,) = await interfered.check_writing([])
    assert (finding.severity, finding.code) == (Severity.WARNS, "permission-denied")
    interference.refuse("Delete", Status.PERMISSION_DENIED, "write access to here")
    (_, finding) = await interfered.check_writing(["here"])
    assert (finding.severity, finding.code) == (Severity.BLOCKS, "permission-denied")
    interference.refuse("List", Status.UNAUTHENTICATED, "Must provide an API key")
    (finding,) = await interfered.check()
    assert (finding.severity, finding.code) == (Severity.BLOCKS, "permission-denied")


@pytest.mark.parametrize(
    "url", ["", "ftp://host", "http://", "http://host:port", "http://host:6334/path"]
)
def test_a_url_that_names_no_grpc_address_is_refused(url: str) -> None:
    with pytest.raises(Refused) as caught:
        QdrantStore(QdrantSettings(url=url))
    assert caught.value.code == "config-invalid"
