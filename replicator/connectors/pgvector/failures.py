"""
What goes wrong at PostgreSQL, translated into what recovers it.

Whether a write may have taken effect has one answer here: only once COMMIT was sent. Whatever
fails before it, a lost connection, a shutdown or a deadline included, leaves nothing behind,
for the server undoes what nobody committed. A COMMIT that is not answered by the server's own
refusal (a conflict, a deferred constraint) may have been carried out, or may yet be.
"""

from __future__ import annotations

import asyncpg

from replicator.errors import (
    OutcomeUnknown,
    Refused,
    Rejected,
    ReplicatorError,
    Retryable,
    Unavailable,
)

_UNDONE = ("23", "40")
"""Classes of a COMMIT that was refused: a constraint, a conflict. Not 40003."""

_UNKNOWN = "40003"
_NO_TABLE = "42P01"
_NO_COLUMN = "42703"
_NO_RIGHT = "42501"
_READ_ONLY = "25006"
_FULL = frozenset({"53100", "53400"})
_BUSY = frozenset({"53300", "55P03"})
_TOO_LARGE = frozenset({"54000", "54001", "54011"})
_CHANGED = frozenset({_NO_COLUMN, "42704", "42804", "0A000", "42P10"})
"""The table is not as it was when it was looked at, mostly."""

_CANCELLED = "57014"


def of_connecting(error: Exception, address: str) -> ReplicatorError:
    """No connection came about, so that nothing was sent."""
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return Refused("config-invalid", f"dsn: {error}")
    if isinstance(error, ValueError):
        # Its words may be a part of the address, which may be one of the password.
        return Refused("config-invalid", "dsn: the driver cannot read it")
    said = f"PostgreSQL at {address}: {_words(error)}"
    if _state(error) in _BUSY:
        return Retryable("store-throttled", said)
    match _state(error)[:2]:
        case "28":
            return Refused("permission-denied", said)
        case "3D" | "42":
            return Refused("store-refused", said)
        case _:
            return Unavailable("store-unavailable", said)


def of_statement(error: Exception, address: str, *, writes: bool) -> ReplicatorError:
    """A transaction failed before its COMMIT was sent: nothing is left of it."""
    said = f"PostgreSQL at {address}: {_words(error)}"
    state = _state(error)
    if state == _CANCELLED:
        return Unavailable("store-unavailable", f"{said}; see `timeout`")
    if state in _BUSY:
        return Retryable("store-throttled", said)
    if state == _NO_RIGHT or state.startswith("28"):
        return Refused("permission-denied", said)
    if state == _NO_TABLE:
        return Refused("target-missing" if writes else "source-missing", said)
    if state == _READ_ONLY or state in _FULL:
        # No record is to blame, and none would pass: a person makes room, or names the primary.
        return Refused("store-refused", said)
    if state in _CHANGED:
        return Refused("unsupported", said)
    if writes and (state in _TOO_LARGE or state.startswith(("22", "23", "P0"))):
        return _rejected(state, said)
    if state.startswith(("22", "23", "3D", "3F", "42", "54", "55", "P0", "XX001", "XX002")):
        return Refused("store-refused", said)
    return Unavailable("store-unavailable", said)


def of_commit(error: Exception, address: str) -> ReplicatorError:
    """A COMMIT was sent, and not answered as it should be."""
    state = _state(error)
    if state.startswith(_UNDONE) and state != _UNKNOWN:
        return of_statement(error, address, writes=True)
    said = f"a commit at PostgreSQL at {address} ended with: {_words(error)}"
    return OutcomeUnknown("outcome-unknown", said)


def _rejected(state: str, said: str) -> Rejected:
    if state in _TOO_LARGE:
        return Rejected("value-too-large", said)
    return Rejected("target-rejected", said)


def _state(error: Exception) -> str:
    """The five characters by which PostgreSQL says what is wrong; empty where it does not."""
    return str(error.sqlstate or "") if isinstance(error, asyncpg.PostgresError) else ""


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    told = str(error) or type(error).__name__
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate:
        return f"{told} ({error.sqlstate})"
    return told
