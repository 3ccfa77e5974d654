"""
Suspects: keys on which both stores were seen to differ while the application goes on writing.

A difference is mostly an event on its way. It becomes a finding only when every excuse has been
ruled out: the stream has applied everything the log held at the sighting, the source and the
target have had the time to show it, both were read again and still differ, and even then the
log brought no event of the key since the sighting. A key with such an event is looked at anew.
One that is written without pause ends as *hot*: no finding, because the log holds its later
events, and the next generation and the last comparison of a cutover read them there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from replicator.migration.equality.mirror import Gap, Mirror
from replicator.model.event import Key
from replicator.model.position import Partition, Positions
from replicator.stream.holds import Holds
from replicator.stream.stream import Stream

_ROUNDS = 5
"""Looks at a key that keeps changing. More only delays the end of the generation."""
_BATCH = 256


class Suspects:
    """Bounded by the caller, which settles when `len` is at its limit."""

    def __init__(
        self,
        *,
        mirror: Mirror,
        stream: Callable[[], Stream | None],
        holds: Holds,
        log_end: Callable[[], Awaitable[Positions]],
        show_after_s: float,
    ) -> None:
        """
        `stream` gives the stream that applies events now, None while it is paused; `log_end`
        asks the feed for every partition's end, and answers with nothing where there is no
        feed. `show_after_s`: from an event to its being visible at both stores, once applied.
        """
        self.hot = 0
        self._mirror = mirror
        self._stream = stream
        self._holds = holds
        self._log_end = log_end
        self._show_after_s = show_after_s
        self._gaps: dict[Key, Gap] = {}

    def __len__(self) -> int:
        """Keys under suspicion."""
        return len(self._gaps)

    def add(self, gap: Gap) -> None:
        """Suspect a key, and note its events from now on."""
        self._gaps[gap.key] = gap
        self._holds.watch([gap.key])

    async def settle(self) -> list[Gap]:
        """Rule out every excuse; what remains is a finding. Forgets all suspects."""
        try:
            findings: list[Gap] = []
            for _ in range(_ROUNDS):
                if not self._gaps:
                    break
                findings += await self._round()
            self.hot += len(self._gaps)
            return findings
        finally:
            self._forget(list(self._gaps))

    async def _round(self) -> list[Gap]:
        await self._until_applied(await self._log_end())
        await asyncio.sleep(self._show_after_s)
        differing: dict[Key, Gap] = {}
        keys = list(self._gaps)
        for start in range(0, len(keys), _BATCH):
            for gap in await self._mirror.gaps(keys[start : start + _BATCH]):
                differing[gap.key] = gap
        self._forget([key for key in keys if key not in differing])
        if not differing:
            return []
        await asyncio.sleep(self._show_after_s)
        ends = await self._log_end()
        await self._until_read(ends)
        quiet = [key for key in differing if not ends or not self._holds.seen(key)]
        self._forget(quiet)
        self._holds.watch(list(self._gaps))
        return [differing[key] for key in quiet]

    def _forget(self, keys: list[Key]) -> None:
        self._holds.unwatch(keys)
        for key in keys:
            del self._gaps[key]

    async def _until_applied(self, ends: Positions) -> None:
        await self._until(
            ends, lambda stream, partition: stream.lanes[partition].watermark.position
        )

    async def _until_read(self, ends: Positions) -> None:
        await self._until(
            ends, lambda stream, partition: stream.lanes[partition].watermark.tracked_to
        )

    async def _until(
        self, ends: Positions, reached: Callable[[Stream, Partition], int]
    ) -> None:
        while ends:
            stream = self._stream()
            if stream is not None and all(
                partition in stream.lanes and reached(stream, partition) >= end
                for partition, end in ends.items()
            ):
                return
            await asyncio.sleep(0.05)
