"""
What goes wrong at a Chroma server, translated into what recovers it.

The question that matters for a write is whether it may have taken effect. The server answers
400 and 422 before it does anything; what it answers with 500 and above may come after. Some
record is to blame for a 400, so that the batch is cut in halves until it stands alone.
"""

from __future__ import annotations

import msgspec

from replicator.errors import (
    OutcomeUnknown,
    Refused,
    Rejected,
    ReplicatorError,
    Retryable,
    Unavailable,
)

_SHOWN_CHARS = 500
"""Of a body that is not Chroma's: a page of some proxy."""


class _Error(msgspec.Struct, frozen=True):
    error: str = ""
    message: str = ""


def of_status(
    status: int, body: bytes, address: str, *, writes: bool, retry_after: str = ""
) -> ReplicatorError:
    """The error of an answer that is none. `retry_after`: the header, in seconds."""
    said = f"Chroma at {address}: {_words(body) or f'status {status}'}"
    match status:
        case 401 | 403:
            return Refused("permission-denied", said)
        case 404 if names_the_database(body):
            return Refused("store-refused", said)
        case 404:
            return Refused("target-missing" if writes else "source-missing", said)
        case 413:
            return Rejected("value-too-large", said)
        case 429:
            wait_s = float(retry_after) if retry_after.isdecimal() else None
            return Retryable("store-throttled", said, wait_s)
        case 501:
            return Refused("unsupported", said)
        case 400 | 422 if writes:
            return _rejected(said)
        case _ if status < 500:
            return Refused("store-refused", said)
        case _ if writes:
            return OutcomeUnknown("outcome-unknown", f"{said} (status {status})")
        case _:
            return Unavailable("store-unavailable", f"{said} (status {status})")


def no_chroma(address: str, why: str, *, writes: bool) -> ReplicatorError:
    """The error of an answer that nobody understands."""
    if writes:
        return OutcomeUnknown("outcome-unknown", f"{address} answered a write with: {why}")
    # A proxy in between, mostly, and for a while.
    return Unavailable("store-unavailable", f"{address} does not answer as Chroma does: {why}")


def names_the_database(body: bytes) -> bool:
    """Whether a 404 is about the tenant or the database, and no collection."""
    words = _words(body).lower()
    return "collection" not in words and ("database" in words or "tenant" in words)


def _rejected(said: str) -> Rejected:
    if "dimension" in said.lower():
        return Rejected("vector-dimension", said, "vectors")
    return Rejected("target-rejected", said)


def _words(body: bytes) -> str:
    try:
        error = msgspec.json.decode(body, type=_Error)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return body[:_SHOWN_CHARS].decode(errors="replace")
    return error.message or error.error
