"""
Is this log still the one that our positions are of?

A position is a number, and any log has a record at it. A topic that was deleted and made anew,
a change log begun again at the same path, a partition whose tail an unclean election cut off
and that has grown since: each would be read on at our position as if nothing had happened, and
its events before that position be skipped, at lag 0.

Two things tell. The log's *identity* is another for a log made anew; not every feed has one.
The *bookmark* of each partition says what the last record applied was: whatever was made anew
or cut off has another record there, or none. A record that retention or compaction has taken
proves nothing either way; then the identity decides, and where there is none, nobody can.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from replicator.model.position import Bookmark, Bounds, LogIdentity, Partition
from replicator.ports.feed import ChangeFeed


class Standing(Enum):
    """What a log is to our positions."""

    SAME = "same"
    ADOPTED = "adopted"
    """No identity was known, and nothing speaks against this one: persist and journal it."""
    UNPROVABLE = "unprovable"
    """Nothing tells whether it is ours: a warning."""
    BEYOND = "beyond"
    """It ends before our position. For a moment a failover may look so; the lag is unknown."""
    OTHER = "other"
    """Another log, or another past of ours: Blocked("log-replaced")."""


class Verdict(msgspec.Struct, frozen=True):
    """`identity` is that of the log now; `message` a sentence where there is more to say."""

    standing: Standing
    identity: LogIdentity
    message: str = ""


async def check_log(
    feed: ChangeFeed,
    *,
    known: LogIdentity | None,
    positions: Mapping[Partition, int],
    bookmarks: Mapping[Partition, Bookmark],
) -> Verdict:
    """
    Compare the log with what is persisted of it. `known` is None where no identity was ever
    persisted (states of the version before).

    To be called before `feed.open`: the feed keeps to the log of this verdict from then on.
    Raises Unavailable when the feed does not answer, and what else it raises.
    """
    identity = await feed.identity()
    if known is not None and known.id and identity.id and identity.id != known.id:
        return Verdict(
            Standing.OTHER,
            identity,
            f"{_topic(positions)} was made anew: the log is {identity.id} now, and our "
            f"positions are of {known.id}",
        )
    bounds = await feed.bounds()
    found = await feed.bookmarks_at({each: mark.offset for each, mark in bookmarks.items()})
    return judge(
        Evidence(known=known, positions=positions, bookmarks=bookmarks),
        identity=identity,
        bounds=bounds,
        found=found,
    )


def _topic(positions: Mapping[Partition, int]) -> str:
    return next((each.rpartition("/")[0] for each in positions), "the log")


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is persisted of our log."""

    known: LogIdentity | None
    positions: Mapping[Partition, int]
    bookmarks: Mapping[Partition, Bookmark]


def judge(
    ours: Evidence,
    *,
    identity: LogIdentity,
    bounds: Mapping[Partition, Bounds],
    found: Mapping[Partition, Bookmark],
) -> Verdict:
    """The verdict on a log whose identity does not contradict ours. `found` is what lies at the
    offsets of our bookmarks.
    """
    for partition, mark in sorted(ours.bookmarks.items()):
        there = found.get(partition)
        if there is not None and there != mark:
            return Verdict(
                Standing.OTHER,
                identity,
                f"{partition} holds another record at offset {mark.offset} than the last one "
                "that we applied",
            )
    for partition, position in sorted(ours.positions.items()):
        at = bounds.get(partition)
        if at is not None and position > at.end:
            return Verdict(
                Standing.BEYOND,
                identity,
                f"{partition} ends at {at.end}, before our position {position}",
            )
    known = ours.known
    if known is None or (known.id is None and identity.id is not None):
        return Verdict(Standing.ADOPTED, identity, f"the log is {identity.id or 'without id'}")
    # One partition that is proven ours proves the log: it is made anew as a whole.
    if known.id == identity.id is not None or found or not any(ours.positions.values()):
        return Verdict(Standing.SAME, identity)
    gone = sorted(ours.bookmarks)
    return Verdict(
        Standing.UNPROVABLE,
        identity,
        f"the log no longer holds the last records that we applied of {', '.join(gone)}, and "
        "has no identity"
        if gone
        else "nothing was applied yet by which the log could be known, and it has no identity",
    )


async def bookmarks_before(
    feed: ChangeFeed, positions: Mapping[Partition, int]
) -> dict[Partition, Bookmark]:
    """
    Bookmarks of the records right before these positions, for a capture: without them a log
    that has no identity could be made anew unseen until a first record is applied. Partitions
    whose last offset holds no record (a marker, a gap) have none.
    """
    return await feed.bookmarks_at(
        {partition: position - 1 for partition, position in positions.items() if position > 0}
    )
