"""
What goes wrong in a call, translated into what recovers it.

The question that matters for a write is whether it may have reached the server. Only a failure
to connect says no for certain: a deadline, a connection that broke, or an answer that does not
say what was done leaves it open, and the server goes on with what it has (a client's deadline
cancels nothing).

The next question is what a further try must do otherwise. A rate limit is waited out. What is
too large for a message, or for the whole of a rate limit, passes in no length of time: it is
split. A collection that is full, or a request that strict mode forbids, waits for a person; no
record is to blame for it.
"""

from __future__ import annotations

import re

import grpc
import msgspec

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

LARGEST_REPLY = 64 << 20
"""Bytes of a reply that are taken in; a larger one is refused before it is read, and asked for
in parts. Half of it splits pages of large points more often; twice it may hold twice the
memory for each read under way."""

_NO_POINT = re.compile(r"No point with id\b")
_NO_COLLECTION = re.compile(r"Collection .* doesn't exist", re.DOTALL)
_NO_SCOPE = re.compile(r"Shard key .* not found", re.DOTALL)
_PRESENT_SCOPE = re.compile(r"Shard(ing)? key .* already exists", re.DOTALL)
_STANDALONE = re.compile(r"running in standalone mode")
_NEVER_SENT = re.compile(
    r"failed to connect|connection refused|network is unreachable|channel is closed|"
    r"errors resolving|dns resolution failed|address lookup failed",
    re.IGNORECASE,
)


_TOO_LARGE = re.compile(
    r"larger than max|too large|try to split your request|message length|status: 413",
    re.IGNORECASE,
)
_FULL = re.compile(r"Max (points count|(vector|payload) storage size)", re.IGNORECASE)
_LIMIT = re.compile(r'Limit exceeded (\d+) > (\d+) for "([^"]+)"')
_RETRY_AFTER = re.compile(r"Retry after (\d+(?:\.\d+)?)s")


class Limit(msgspec.Struct, frozen=True):
    """A bound of strict mode that a request broke: `limit`, `timeout`, `upsert limit`…"""

    name: str
    most: int


def is_absent_point(error: grpc.aio.AioRpcError) -> bool:
    """A patch that found no point. The points before it in the call may have been changed."""
    return error.code() is Status.NOT_FOUND and bool(_NO_POINT.search(error.details() or ""))


def is_absent_collection(error: grpc.aio.AioRpcError) -> bool:
    """The collection named in the request does not exist."""
    return error.code() is Status.NOT_FOUND and not is_absent_point(error)


def is_absent_scope(error: grpc.aio.AioRpcError) -> bool:
    """The shard key named in the request does not exist. Operations before it in the call may
    have been applied.
    """
    return bool(_NO_SCOPE.search(error.details() or ""))


def is_present_scope(error: grpc.aio.AioRpcError) -> bool:
    """The shard key that was to be made is there."""
    return bool(_PRESENT_SCOPE.search(error.details() or ""))


def is_standalone(error: grpc.aio.AioRpcError) -> bool:
    """The server is no member of a cluster, and has no shard keys."""
    return bool(_STANDALONE.search(error.details() or ""))


def is_too_large(error: grpc.aio.AioRpcError) -> bool:
    """The request, or its reply, passes in no length of time, but in parts it may."""
    return error.code() is not Status.INVALID_ARGUMENT and bool(
        _TOO_LARGE.search(error.details() or "")
    )


def named_limit(details: str | None) -> Limit | None:
    """The limit that a refusal names, if it does."""
    found = _LIMIT.search(details or "")
    return None if found is None else Limit(found[3], int(found[2]))


def of_write(error: grpc.aio.AioRpcError, address: str = "") -> ReplicatorError:
    """What a failed write means. `address`: whose words these are."""
    details, who = error.details() or "", _who(address)
    if is_too_large(error):
        return Rejected("value-too-large", f"{who}: {details}")
    match error.code():
        case Status.UNAVAILABLE if _NEVER_SENT.search(details):
            return Unavailable("store-unavailable", f"{who} does not answer: {details}")
        case Status.INVALID_ARGUMENT | Status.FAILED_PRECONDITION if _FULL.search(details):
            # The next point would be refused as well: it is no fault of this one.
            return Refused("store-refused", f"{who}: {details}")
        case Status.INVALID_ARGUMENT | Status.ALREADY_EXISTS | Status.OUT_OF_RANGE:
            return _rejected(details)
        case Status.NOT_FOUND if _NO_COLLECTION.search(details):
            return Refused("target-missing", f"{who}: {details}")
        case Status.NOT_FOUND:
            return Fatal("store-bug", f"{who} answered a write with: {details}")
        case _:
            return _either(error, who) or OutcomeUnknown(
                "outcome-unknown",
                f"a write to {who} ended with {error.code().name}: {details}",
            )


def of_read(error: grpc.aio.AioRpcError, address: str = "") -> ReplicatorError:
    """
    What a failed read means: nothing is ever at stake, so most can be tried again. A request
    that is refused as such is nobody's fault but the store's and ours: no record's.
    """
    details, who = error.details() or "", _who(address)
    if is_too_large(error):
        return Rejected("value-too-large", f"{who}: {details}")
    match error.code():
        case Status.NOT_FOUND:
            return Refused("source-missing", f"{who}: {details}")
        case Status.INVALID_ARGUMENT | Status.OUT_OF_RANGE:
            rejected = _rejected(details)
            if rejected.code == "target-rejected":
                return Refused("store-refused", f"{who} refuses to be read so: {details}")
            return rejected
        case _:
            return _either(error, who) or Unavailable(
                "store-unavailable",
                f"a read from {who} ended with {error.code().name}: {details}",
            )


def _who(address: str) -> str:
    return f"Qdrant at {address}" if address else "Qdrant"


def _either(error: grpc.aio.AioRpcError, who: str) -> ReplicatorError | None:
    """What means the same for reads and writes: the server refused before it did anything."""
    details = error.details() or ""
    match error.code():
        case Status.RESOURCE_EXHAUSTED:
            return Retryable("store-throttled", f"{who}: {details}", _retry_after_s(error))
        case Status.UNAUTHENTICATED | Status.PERMISSION_DENIED:
            return Refused("permission-denied", f"{who}: {details}")
        case Status.UNIMPLEMENTED:
            return Refused("unsupported", f"{who} cannot do it: {details}")
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
    # The header is not always there; the words say the same.
    found = _RETRY_AFTER.search(error.details() or "")
    return None if found is None else float(found[1])
