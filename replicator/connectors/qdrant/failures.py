"""
What goes wrong in a call, translated into what recovers it.

The question that matters for a write is whether it may have reached the server. Only a failure
to connect says no for certain: a deadline, a connection that broke, or an answer that does not
say what was done leaves it open, and the server goes on with what it has (a client's deadline
cancels nothing).
"""

from __future__ import annotations

import re

import grpc

from replicator.errors import (
    Fatal,
    OutcomeUnknown,
    Refused,
    Rejected,
    ReplicatorError,
    Retryable,
    Unavailable,
)

Status = grpc.StatusCode

_NO_POINT = re.compile(r"No point with id\b")
_NO_COLLECTION = re.compile(r"Collection .* doesn't exist", re.DOTALL)
_NEVER_SENT = re.compile(
    r"failed to connect|connection refused|network is unreachable|channel is closed|"
    r"errors resolving|dns resolution failed|address lookup failed",
    re.IGNORECASE,
)


def is_absent_point(error: grpc.aio.AioRpcError) -> bool:
    """A patch that found no point. The points before it in the call may have been changed."""
    return error.code() is Status.NOT_FOUND and bool(_NO_POINT.search(error.details() or ""))


def is_absent_collection(error: grpc.aio.AioRpcError) -> bool:
    """The collection named in the request does not exist."""
    return error.code() is Status.NOT_FOUND and not is_absent_point(error)


def of_write(error: grpc.aio.AioRpcError) -> ReplicatorError:
    """What a failed write means."""
    details = error.details() or ""
    match error.code():
        case Status.UNAVAILABLE if _NEVER_SENT.search(details):
            return Unavailable("store-unavailable", f"Qdrant does not answer: {details}")
        case Status.INVALID_ARGUMENT | Status.ALREADY_EXISTS | Status.OUT_OF_RANGE:
            return _rejected(details)
        case Status.NOT_FOUND if _NO_COLLECTION.search(details):
            return Refused("target-missing", f"Qdrant: {details}")
        case Status.NOT_FOUND:
            return Fatal("store-bug", f"Qdrant answered a write with: {details}")
        case _:
            return _either(error) or OutcomeUnknown(
                "outcome-unknown",
                f"a write to Qdrant ended with {error.code().name}: {details}",
            )


def of_read(error: grpc.aio.AioRpcError) -> ReplicatorError:
    """What a failed read means: nothing is ever at stake, so most can be tried again."""
    details = error.details() or ""
    match error.code():
        case Status.NOT_FOUND:
            return Refused("source-missing", f"Qdrant: {details}")
        case Status.INVALID_ARGUMENT:
            return _rejected(details)
        case _:
            return _either(error) or Unavailable(
                "store-unavailable",
                f"a read from Qdrant ended with {error.code().name}: {details}",
            )


def _either(error: grpc.aio.AioRpcError) -> ReplicatorError | None:
    """What means the same for reads and writes: the server refused before it did anything."""
    details = error.details() or ""
    match error.code():
        case Status.RESOURCE_EXHAUSTED:
            return Retryable("store-throttled", f"Qdrant: {details}", _retry_after_s(error))
        case Status.UNAUTHENTICATED | Status.PERMISSION_DENIED:
            return Refused("permission-denied", f"Qdrant: {details}")
        case Status.UNIMPLEMENTED:
            return Refused("unsupported", f"this server cannot do it: {details}")
        case _:
            return None


def _rejected(details: str) -> Rejected:
    lower = details.lower()
    if "vector dimension error" in lower:
        return Rejected("vector-dimension", details, "vectors")
    if "not existing vector name" in lower:
        return Rejected("vector-unknown", details, "vectors")
    return Rejected("target-rejected", details)


def _retry_after_s(error: grpc.aio.AioRpcError) -> float | None:
    for key, value in error.trailing_metadata() or ():
        if key == "retry-after":
            try:
                return float(value)
            except ValueError:
                return None
    return None
