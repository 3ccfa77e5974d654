"""
What goes wrong at Weaviate, translated into what recovers it.

The server says nearly everything by gRPC's UNKNOWN and a sentence, so that only its words tell
a class that is not there from a disk that is full. What its words do not tell leaves a write
open. A batch is answered object by object, and the answers are not to be trusted where a shard
takes no writes: seen on 1.38.1, such a shard answers for the first object alone, as if it had
kept the others.
"""

from __future__ import annotations

import re

import grpc

from replicator.errors import (
    OutcomeUnknown,
    Refused,
    Rejected,
    ReplicatorError,
    Retryable,
    Unavailable,
)

Status = grpc.StatusCode

_NEVER_SENT = re.compile(
    r"failed to connect|connection refused|network is unreachable|channel is closed|"
    r"errors resolving|dns resolution failed|address lookup failed",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(r"larger than max|message length", re.IGNORECASE)
_NO_CLASS = re.compile(
    r"could not find class|class not found|class .* not (found|present) in schema|"
    r"given class does not exist|index not found|class .* not found",
    re.IGNORECASE,
)
_NO_TENANT = re.compile(r"tenant not found", re.IGNORECASE)
_INACTIVE = re.compile(r"tenant not active", re.IGNORECASE)
_READ_ONLY = re.compile(r"read-only|READONLY")
_DENIED = re.compile(r"forbidden|unauthorized|authorization", re.IGNORECASE)
_INVALID = re.compile(r"\s*invalid .*property", re.IGNORECASE)
"""It names a property, which may be called by any of the words below."""

_BROKEN = re.compile(
    r"consistency level|deadline|time(d )?out|context canceled|connect|unavailable|memory|"
    r"shut(ting)? ?down|closed|leader|no space|raft|replica",
    re.IGNORECASE,
)
"""Of the answer for one object: words of a server that could not, and not of one that would
not."""


class TenantGone(Exception):
    """The tenant of a request is not there."""


class TenantInactive(Exception):
    """The tenant of a request is not active."""


def of_call(error: grpc.aio.AioRpcError, who: str, *, writes: bool) -> ReplicatorError:
    """
    The error that a failed call is. `who`: whose words these are. Raises TenantGone or
    TenantInactive where it is about the tenant.
    """
    details = error.details() or ""
    said = f"{who}: {details}"
    if _TOO_LARGE.search(details):
        return Rejected("value-too-large", said)
    match error.code():
        case Status.UNAVAILABLE if _NEVER_SENT.search(details):
            return Unavailable("store-unavailable", f"{who} does not answer: {details}")
        case Status.UNAUTHENTICATED | Status.PERMISSION_DENIED:
            return Refused("permission-denied", said)
        case Status.RESOURCE_EXHAUSTED:
            return Retryable("store-throttled", said, _retry_after_s(error))
        case Status.UNIMPLEMENTED:
            return Refused("unsupported", f"{who} is too old: {details}")
        case Status.UNKNOWN | Status.NOT_FOUND | Status.INVALID_ARGUMENT:
            _check_tenant(details)
            found = _of_words(details, said, writes=writes)
            if found is not None:
                return found
        case Status.FAILED_PRECONDITION:
            return Refused("store-refused", said)
        case _:
            pass
    return lost(f"{who} ended a call with {error.code().name}: {details}", writes=writes)


def of_status(
    status: int, message: str, who: str, *, writes: bool, retry_after: str = ""
) -> ReplicatorError:
    """The error that an answer over REST is. Nothing there is about one record."""
    said = f"{who} ({status}): {message}"
    match status:
        case 401 | 403:
            return Refused("permission-denied", said)
        case 404:
            return Refused("target-missing" if writes else "source-missing", said)
        case 429:
            return Retryable("store-throttled", said, _seconds(retry_after))
        case _ if status == 408 or status >= 500:
            return lost(said, writes=writes)
        case _:
            return Refused("store-refused", said)


def of_object(message: str, who: str) -> Rejected:
    """
    The error of one object in a batch. Raises what concerns the batch as a whole: a shard that
    takes no writes, a class that is not there, a server that could not; and TenantGone or
    TenantInactive.
    """
    said = f"{who}: {message}"
    if _INVALID.match(message):
        return Rejected("target-rejected", said)
    _check_tenant(message)
    found = _of_words(message, said, writes=True)
    if found is not None:
        raise found
    lower = message.lower()
    if "dimensions do not match" in lower or "vector with length" in lower:
        return Rejected("vector-dimension", said, "vectors")
    if "does not have configuration for vector" in lower:
        return Rejected("vector-unknown", said, "vectors")
    if _BROKEN.search(message):
        raise OutcomeUnknown("outcome-unknown", said)
    return Rejected("target-rejected", said)


def lost(message: str, *, writes: bool) -> ReplicatorError:
    """The error of an answer that did not come, or that nobody understands."""
    if writes:
        return OutcomeUnknown("outcome-unknown", message)
    return Unavailable("store-unavailable", message)


def _of_words(details: str, said: str, *, writes: bool) -> ReplicatorError | None:
    """What was refused before anything was done, by the server's words."""
    if _NO_CLASS.search(details):
        return Refused("target-missing" if writes else "source-missing", said)
    if _READ_ONLY.search(details):
        return Refused("permission-denied", f"{said}; set its shards to READY again")
    if _DENIED.search(details):
        return Refused("permission-denied", said)
    return None


def _check_tenant(details: str) -> None:
    if _NO_TENANT.search(details):
        raise TenantGone(details)
    if _INACTIVE.search(details):
        raise TenantInactive(details)


def _retry_after_s(error: grpc.aio.AioRpcError) -> float | None:
    for key, value in error.trailing_metadata() or ():
        if key == "retry-after":
            return _seconds(str(value))
    return None


def _seconds(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
