"""
The consumer group, where applied positions are published.

Partitions are assigned by hand, so the group has no members and nothing ever rebalances;
commits go in while that stays so. Nothing here decides where we read: the state store does.
What others do to the group is watched all the same, because a second replicator on one group is
the mistake that ends with two of them writing.

A foreign commit stands only until our next one covers it, so each `publish` looks before it
commits, and what it saw is told for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from replicator.errors import Refused
from replicator.feeds.kafka.cluster import Cluster

MEMORY_S = 60.0
"""How long a foreign commit is told after it was seen. Half could fall between two looks at the
gate; twice keeps the gate closed for longer after the cause is gone."""


class GroupProgress:
    """One group's committed offsets for one topic. Called from one task at a time."""

    def __init__(self, cluster: Cluster, group: str, topic: str) -> None:
        self._cluster = cluster
        self._group = group
        self._topic = topic
        # What a commit of ours may have left, by partition: two values while its outcome is
        # unknown.
        self._ours: dict[int, set[int]] = {}
        self._seen: dict[str, float] = {}

    async def publish(self, offsets: Mapping[int, int]) -> None:
        """Commit, and remember what was foreign: commits found, or members that bar ours."""
        if not offsets:
            return
        committed = await self._cluster.committed(self._group, self._topic, offsets)
        self._remember(self._foreign(committed, {}))
        for number, offset in offsets.items():
            self._ours.setdefault(number, set()).add(offset)
        try:
            await self._cluster.commit(self._group, self._topic, offsets)
        except Refused as error:
            if error.code != "group-foreign":
                raise
            self._remember([f"commits are refused: {error.message}"])
            return
        for number, offset in offsets.items():
            self._ours[number] = {offset}

    async def intruders(self, published: Mapping[int, int]) -> list[str]:
        """One sentence for each foreign commit or member, of now or of the last minute."""
        committed = await self._cluster.committed(self._group, self._topic, published)
        # At once: while the members are asked for, further commits of ours may be answered, and
        # this one would not be known for ours any more.
        self._remember(self._foreign(committed, published))
        members = await self._cluster.members(self._group)
        now = asyncio.get_running_loop().time()
        self._seen = {what: at for what, at in self._seen.items() if now - at < MEMORY_S}
        return [
            *(f"{member} is a member of group {self._group}" for member in members),
            *self._seen,
        ]

    def _foreign(self, committed: Mapping[int, int], published: Mapping[int, int]) -> list[str]:
        found = []
        for number, offset in sorted(committed.items()):
            ours = set(self._ours.get(number, ()))
            if number in published:
                ours.add(published[number])
            if ours and offset not in ours:
                expected = " or ".join(str(each) for each in sorted(ours))
                found.append(
                    f"group {self._group} has committed {offset} for {self._topic}/{number}, "
                    f"where {expected} was published"
                )
        return found

    def _remember(self, sentences: list[str]) -> None:
        now = asyncio.get_running_loop().time()
        self._seen.update(dict.fromkeys(sentences, now))
