"""What to do about each reason why the gate is closed, or why something waits."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from replicator.errors import hint_of
from replicator.migration.cutover.gate import BLOCKERS
from replicator.model.finding import Blocker


def advised(blockers: Iterable[Blocker], feed: str) -> list[Blocker]:
    """The same with hints, where the feed is of this kind (`kafka`, `changelog`, `none`)."""
    return [
        blocker
        if blocker.hint
        else msgspec.structs.replace(blocker, hint=advice(blocker.code, feed))
        for blocker in blockers
    ]


def advice(code: str, feed: str) -> str:
    """What to do about a reason; the words of the log where the sentence depends on it."""
    if feed == "changelog":
        told = hint_of(code, feed)
        if told and told != hint_of(code):
            return told
    return BLOCKERS.get(code) or hint_of(code)
