"""What the server says, and what each of its sentences means."""

from __future__ import annotations

import grpc
import pytest

from replicator.connectors.weaviate.failures import (
    TenantGone,
    TenantInactive,
    of_call,
    of_object,
    of_status,
)
from replicator.errors import (
    OutcomeUnknown,
    Refused,
    Rejected,
    ReplicatorError,
    Retryable,
    Unavailable,
)

Status = grpc.StatusCode


def failed(code: grpc.StatusCode, details: str, **trailers: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        code,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(*((k.replace("_", "-"), v) for k, v in trailers.items())),
        details,
    )


@pytest.mark.parametrize(
    ("error", "read", "write"),
    [
        (
            failed(Status.UNAVAILABLE, "failed to connect to all addresses"),
            Unavailable,
            Unavailable,
        ),
        (failed(Status.UNAVAILABLE, "Socket closed"), Unavailable, OutcomeUnknown),
        (failed(Status.DEADLINE_EXCEEDED, "Deadline Exceeded"), Unavailable, OutcomeUnknown),
        (failed(Status.UNKNOWN, "something new"), Unavailable, OutcomeUnknown),
        (failed(Status.UNIMPLEMENTED, "unknown method Search"), Refused, Refused),
        (failed(Status.FAILED_PRECONDITION, "namespace"), Refused, Refused),
        (
            failed(Status.RESOURCE_EXHAUSTED, "Received message larger than max"),
            Rejected,
            Rejected,
        ),
    ],
)
def test_a_call_that_failed_says_whether_anything_may_have_been_written(
    error: grpc.aio.AioRpcError, read: type[ReplicatorError], write: type[ReplicatorError]
) -> None:
    assert type(of_call(error, "w", writes=False)) is read
    assert type(of_call(error, "w", writes=True)) is write


@pytest.mark.parametrize(
    "words",
    [
        "could not find class Docs in schema",
        "batch delete params: could not find class Docs in schema",
        "get tenants: could not get tenants: class not found",
    ],
)
def test_a_class_that_is_not_there_is_known_by_its_sentence(words: str) -> None:
    error = failed(Status.UNKNOWN, words)
    assert of_call(error, "w", writes=False).code == "source-missing"
    assert of_call(error, "w", writes=True).code == "target-missing"


def test_a_tenant_is_told_apart_from_everything_else() -> None:
    gone = failed(Status.UNKNOWN, 'aggregate: tenant not found: "a"')
    with pytest.raises(TenantGone):
        of_call(gone, "w", writes=False)
    with pytest.raises(TenantInactive):
        of_object("tenant not active: 'a'", "w")


def test_a_throttled_call_waits_as_long_as_it_is_told() -> None:
    error = of_call(
        failed(Status.RESOURCE_EXHAUSTED, "slow", retry_after="7"), "w", writes=True
    )
    assert isinstance(error, Retryable)
    assert (error.code, error.retry_after_s) == ("store-throttled", 7.0)
    unsaid = of_status(429, "slow", "w", writes=True, retry_after="soon")
    assert isinstance(unsaid, Retryable)
    assert unsaid.retry_after_s is None


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("vector dimensions do not match the index dimensions", "vector-dimension"),
        ("collection Docs does not have configuration for vector nope", "vector-unknown"),
        ("invalid text property 'connect-memory' on class 'A': not a text", "target-rejected"),
        (
            "invalid integer property 'n' on class 'Docs': requires an integer",
            "target-rejected",
        ),
    ],
)
def test_an_object_that_is_refused_is_refused_alone(words: str, code: str) -> None:
    assert of_object(words, "w").code == code


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        ("store is read-only due to: manually set by user", Refused, "permission-denied"),
        ("class Docs not present in schema", Refused, "target-missing"),
        ('cannot achieve consistency level "ALL"', OutcomeUnknown, "outcome-unknown"),
        ("context deadline exceeded", OutcomeUnknown, "outcome-unknown"),
        ("not enough memory mappings", OutcomeUnknown, "outcome-unknown"),
    ],
)
def test_what_concerns_the_whole_batch_is_raised(
    words: str, kind: type[ReplicatorError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        of_object(words, "w")
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("status", "read", "write"),
    [
        (401, Refused, Refused),
        (404, Refused, Refused),
        (422, Refused, Refused),
        (500, Unavailable, OutcomeUnknown),
        (503, Unavailable, OutcomeUnknown),
    ],
)
def test_an_answer_over_rest_says_the_same(
    status: int, read: type[ReplicatorError], write: type[ReplicatorError]
) -> None:
    assert type(of_status(status, "no", "w", writes=False)) is read
    assert type(of_status(status, "no", "w", writes=True)) is write
