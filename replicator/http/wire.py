"""
The JSON of the HTTP interface: the model's structs, with times as RFC 3339 strings in UTC.

Everything else is what msgspec makes of the structs: `null` for unknown, seconds for durations,
base64 for bytes. The server encodes and the client decodes with the same table, so that a
command sees the same values with a daemon and without one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from replicator.migration.cutover.advice import advice
from replicator.model.finding import Blocker, Finding
from replicator.model.letter import DeadLetter, RejectedRecord
from replicator.model.record import JournalEntry
from replicator.model.report import Report
from replicator.model.status import Status

_TIMES: dict[type, tuple[str, ...]] = {
    Status: (
        "since",
        "verify.at",
        "fence.since",
        "waits.*.since",
        "waits.*.until",
        "facts.*.at",
    ),
    JournalEntry: ("at",),
    Finding: ("at",),
    DeadLetter: ("at",),
    RejectedRecord: ("at",),
    Report: ("started_at", "finished_at", "findings.*.at"),
}
"""Where the structs hold wall-clock seconds; `*` stands for every item of a list."""

T = TypeVar("T", bound=msgspec.Struct)


def document(value: msgspec.Struct) -> dict[str, Any]:
    """A struct of the table as a JSON-ready map; no blocker goes out without a hint."""
    made: dict[str, Any] = msgspec.to_builtins(value)
    for path in _TIMES[type(value)]:
        _change(made, path.split("."), stamp)
    for blocker in (*made.get("blockers", ()), *made.get("not_ready", ())):
        blocker["hint"] = blocker["hint"] or advice(blocker["code"], "")
    return made


def blocker(value: Blocker) -> dict[str, str]:
    """A blocker that stands by itself, with its hint."""
    return {
        "code": value.code,
        "message": value.message,
        "hint": value.hint or advice(value.code, ""),
    }


def struct(source: Any, kind: type[T]) -> T:
    """What `document` made, as a struct again. Raises msgspec.ValidationError."""
    for path in _TIMES[kind]:
        _change(source, path.split("."), _seconds)
    return msgspec.convert(source, kind)


def stamp(seconds: float) -> str:
    """Seconds since the epoch as `2026-01-31T12:00:00.000Z`."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError) as exc:
        raise msgspec.ValidationError(f"{text!r} is not a time") from exc


def _change(node: Any, path: list[str], change: Callable[[Any], Any]) -> None:
    head, *rest = path
    if head == "*":
        for item in node if isinstance(node, list) else ():
            _change(item, rest, change)
    elif isinstance(node, dict) and node.get(head) is not None:
        if rest:
            _change(node[head], rest, change)
        else:
            node[head] = change(node[head])
