"""
What goes wrong at Milvus, translated into what recovers it.

Milvus answers most refusals in the reply itself, by a code; gRPC's own status tells of the
connection. The question that matters for a write is whether it may have been carried out. What
is denied before it reaches the log (rate, quota, permission, a value that no field takes) was
not; every other code, a deadline or a broken connection leave it open.

The codes are those of Milvus's `merr` package. Older servers, and milvus-lite, say most of it
by the older enum alone, or by both.
"""

from __future__ import annotations

import re

import grpc

from replicator.connectors.milvus.wire import Message
from replicator.errors import (
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
in parts. Half of it splits pages of large points more often; twice it may hold twice the memory
for each read under way."""

NO_COLLECTION = 100
NO_PARTITION = 200
NO_INDEX = 700
_NOT_READY = 1
_MISSING = frozenset({NO_COLLECTION, NO_PARTITION})
_NOT_LOADED = frozenset({101, 103, 106, 201, 202})
_DENIED = frozenset({1400, 1401, 1800})
_BUSY = frozenset({4, 8, 11, 12, 1807})
"""Rate and queue limits; 11: the server lags behind its log, and denies writes meanwhile."""

_FULL = frozenset({3, 7, 9, 102, 250})
"""Memory, disk, a quota, collections: writes are denied until somebody makes room."""

_CANNOT = frozenset({10, 701, 2001, 3000})
_UNFIT = frozenset({6, 1100, 1101, 1102, 1700, 1804})
"""A value that no field takes. 6 is how milvus-lite says it; of Milvus, that a request came to
another cluster, which is no less refused."""

_TOO_LARGE = 1102
_OLDER = {3: 1401, 4: NO_COLLECTION, 5: 1100, 25: NO_INDEX, 49: 8}
"""The older enum → the codes that came after it, where nothing else is said."""

_NEVER_SENT = re.compile(
    r"failed to connect|connection refused|network is unreachable|channel is closed|"
    r"errors resolving|dns resolution failed|address lookup failed",
    re.IGNORECASE,
)
_REPLY_TOO_LARGE = re.compile(r"larger than max|message length|maxoutputsize", re.IGNORECASE)


class Answer(Exception):
    """A server's own word that it did not do what it was asked for."""

    def __init__(self, status: Message) -> None:
        super().__init__(status.reason or status.detail)
        self.code: int = status.code or _OLDER.get(status.error_code, -1)
        self.is_retriable: bool = status.retriable
        self.is_about_input = status.extra_info.get("is_input_error") == "true"

    @property
    def is_absent(self) -> bool:
        """There is no such collection or partition."""
        return self.code in _MISSING

    @property
    def is_not_loaded(self) -> bool:
        """The collection is there, and cannot be read just now."""
        return self.code in _NOT_LOADED


def is_refusal(status: Message) -> bool:
    """Whether the status of a reply says no."""
    return bool(status.code or status.error_code)


def of_answer(answer: Answer, place: str, *, writes: bool) -> ReplicatorError:
    """What a refusal means. `place`: who said so."""
    said = f"Milvus at {place}: {answer} (code {answer.code})"
    code = answer.code
    if code in _MISSING:
        return Refused("target-missing" if writes else "source-missing", said)
    if code in _DENIED:
        return Refused("permission-denied", said)
    if code in _BUSY:
        return Retryable("store-throttled", said)
    if code in _FULL:
        return Refused("store-refused", said)
    if code in _CANNOT:
        return Refused("unsupported", said)
    if code in _NOT_LOADED or (code == _NOT_READY and answer.is_retriable):
        return Unavailable("store-unavailable", said)
    if code in _UNFIT or answer.is_about_input:
        if not writes:
            return Refused("store-refused", said)
        code_of = "value-too-large" if code == _TOO_LARGE else "target-rejected"
        return Rejected(code_of, said)
    return _open(said, writes=writes)


def of_transport(
    error: grpc.aio.AioRpcError, place: str, details: str, *, writes: bool
) -> ReplicatorError:
    """What a call means that has no reply. `details`: the words of the error, as told."""
    said = f"Milvus at {place}: {error.code().name}: {details}"
    match error.code():
        case Status.UNAVAILABLE if _NEVER_SENT.search(details):
            return Unavailable("store-unavailable", said)
        case Status.RESOURCE_EXHAUSTED if _REPLY_TOO_LARGE.search(details):
            return Rejected("value-too-large", said)
        case Status.RESOURCE_EXHAUSTED:
            return Retryable("store-throttled", said)
        case Status.UNAUTHENTICATED | Status.PERMISSION_DENIED:
            return Refused("permission-denied", said)
        case Status.UNIMPLEMENTED:
            return Refused("unsupported", said)
        case _:
            return _open(said, writes=writes)


def _open(said: str, *, writes: bool) -> ReplicatorError:
    if writes:
        return OutcomeUnknown("outcome-unknown", said)
    return Unavailable("store-unavailable", said)
