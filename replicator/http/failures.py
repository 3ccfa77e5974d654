"""
Errors on the wire: `{"error": {"code", "message", "hint", "kind"}}`, and back.

`kind` is the class in the error tree, so that a command exits with the same code whether a
daemon answered it or not.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from replicator.errors import (
    CODES,
    Blocked,
    Fatal,
    OutcomeUnknown,
    OwnershipUnknown,
    Refused,
    Rejected,
    ReplicatorError,
    Retryable,
    Unavailable,
    hint_of,
)

_STATUS_OF_CODE = {
    "bad-request": HTTPStatus.BAD_REQUEST,
    "unauthorised": HTTPStatus.UNAUTHORIZED,
    "not-found": HTTPStatus.NOT_FOUND,
}
_KINDS: dict[str, type[ReplicatorError]] = {
    kind.__name__: kind
    for kind in (
        Unavailable,
        OutcomeUnknown,
        Retryable,
        Rejected,
        Refused,
        Blocked,
        OwnershipUnknown,
        Fatal,
    )
}


def status_of(error: ReplicatorError) -> HTTPStatus:
    """The HTTP status that tells what kind of error it is."""
    match error:
        case Refused():
            return _STATUS_OF_CODE.get(error.code, HTTPStatus.CONFLICT)
        case Blocked() | OwnershipUnknown():
            return HTTPStatus.CONFLICT
        case Retryable():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR


def document(error: ReplicatorError, feed: str = "") -> dict[str, Any]:
    """The body of an error's answer, with the hint for a feed of this kind."""
    return {
        "error": {
            "code": error.code,
            "message": error.message,
            "hint": hint_of(error.code, feed),
            "kind": type(error).__name__,
        }
    }


def error_from(body: Any, status: int) -> ReplicatorError:
    """The error that an answer of 400 and above carries; Fatal when it carries none."""
    told = body.get("error") if isinstance(body, dict) else None
    if not isinstance(told, dict) or told.get("code") not in CODES:
        return Fatal("internal", f"the daemon answered {status} without a reason")
    kind = _KINDS.get(str(told.get("kind")), Fatal)
    return kind(str(told["code"]), str(told.get("message", "")))
