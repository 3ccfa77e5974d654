"""
What goes wrong at Pinecone, translated into what recovers it.

The question that matters for a write is whether it may have taken effect. What was never sent
has not; a 4xx is answered before anything is done; whatever comes in place of an answer leaves
it open. A 429 is one of two things: too many requests a second, which passes, or the units of a
month, which do not. Only its words tell.
"""

from __future__ import annotations

import httpx
from pinecone.errors import exceptions as said

from replicator.errors import (
    OutcomeUnknown,
    Refused,
    Rejected,
    ReplicatorError,
    Retryable,
    Unavailable,
)
from replicator.settings.credentials import without

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

_OF_A_MONTH = ("current month", "unit limit", "quota_exceeded", "upgrade")
"""Words of a quota that no waiting of ours mends: the units of a month, or what a project may
hold (403)."""

_CURE = (
    "; wait for the next month, or raise the plan or the spending limit at the vendor's console"
)


def of(exc: said.PineconeError, place: str, key: str, *, writes: bool) -> ReplicatorError:
    """The error that an exception of the client is. `place`: who was asked."""
    message = without(f"Pinecone at {place}: {exc}", [key])
    match exc:
        case said.ApiError():
            return _of_status(exc, message, writes=writes)
        case said.PineconeConnectionError() | said.PineconeTimeoutError():
            if isinstance(exc.__cause__, _NOT_SENT):
                return Unavailable("store-unavailable", message)
            return lost(message, writes=writes)
        case said.PineconeValueError() | said.PineconeTypeError() if writes:
            # The client's own look at what it is given: some record is to blame.
            return Rejected("target-rejected", message)
        case _:
            return lost(message, writes=writes)


def lost(message: str, *, writes: bool) -> ReplicatorError:
    """The error of an answer that did not come, or that nobody understands."""
    if writes:
        return OutcomeUnknown("outcome-unknown", message)
    return Unavailable("store-unavailable", message)


def is_absent_namespace(exc: said.PineconeError) -> bool:
    """Whether a 404 is about the namespace, and not about the index."""
    return isinstance(exc, said.NotFoundError) and "namespace" in exc.message.lower()


def _of_status(exc: said.ApiError, message: str, *, writes: bool) -> ReplicatorError:
    if exc.status_code == 402 or (exc.status_code in (403, 429) and _is_quota(exc)):
        return Refused("quota-exceeded", message + _CURE)
    if exc.status_code in (400, 422) and writes:
        return _rejected(exc, message)
    match exc.status_code:
        case 401 | 403:
            return Refused("permission-denied", message)
        case 404:
            return Refused("target-missing" if writes else "source-missing", message)
        case 413:
            return Rejected("value-too-large", message)
        case 429:
            wait_s = exc.retry_after if isinstance(exc, said.RateLimitError) else None
            return Retryable("store-throttled", message, wait_s)
        case 412:
            return Refused("unsupported", message)
        case status if status == 408 or status >= 500:
            return lost(message, writes=writes)
        case _:
            return Refused("store-refused", message)


def _rejected(exc: said.ApiError, message: str) -> Rejected:
    """Some record of the request is to blame."""
    if "dimension" in exc.message.lower():
        return Rejected("vector-dimension", message, "vectors")
    return Rejected("target-rejected", message)


def _is_quota(exc: said.ApiError) -> bool:
    words = f"{exc.error_code or ''} {exc.message}".lower()
    return any(each in words for each in _OF_A_MONTH)
