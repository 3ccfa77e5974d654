"""
The lanes of one stream, and what those who share them tell each other.

The reader adds to lanes, the dispatcher takes from them, the committer persists how far they
are. Each changes them between two awaits and never across one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Set

from replicator.model.event import Key
from replicator.model.position import Partition, Positions
from replicator.settings.settings import StreamSettings
from replicator.stream.coalesce import VersionWindow
from replicator.stream.holds import Holds
from replicator.stream.lane import Lane


class Lanes:
    """A lane for each partition; none before `open`."""

    def __init__(self, settings: StreamSettings, holds: Holds, versions: VersionWindow) -> None:
        self.settings = settings
        """Those in force: a person may tune them while the stream runs."""
        self.of: dict[Partition, Lane] = {}
        self.active: dict[Partition, Lane] = {}
        """Those with records that are not settled: of many partitions mostly few."""
        self.busy: dict[Partition, Lane] = {}
        """Those with something that waits to be written."""
        self.stopping = asyncio.Event()
        """Nothing new is read, and nothing new is written."""
        self.work = asyncio.Event()
        """There may be something to write."""
        self._holds = holds
        self._versions = versions
        self._progress = asyncio.Event()

    def open(self, positions: Mapping[Partition, int]) -> None:
        """Make the lanes."""
        share = self.settings.buffer_records // max(1, min(4, len(positions)))
        for partition, position in positions.items():
            self.of[partition] = Lane(
                partition,
                position,
                records_max=max(256, share),
                held=self._holds.keys,
                versions=self._versions,
            )

    def stop(self) -> None:
        """Wake whoever waits: it is over."""
        self.stopping.set()
        self.work.set()
        self.made_progress()

    @property
    def positions(self) -> Positions:
        """The commit watermarks: everything before them is durable."""
        return {partition: lane.watermark.position for partition, lane in self.of.items()}

    @property
    def in_flight(self) -> int:
        """Records in writes under way."""
        return sum(len(work.tickets) for lane in self.active.values() for work in lane.works)

    @property
    def in_flight_bytes(self) -> int:
        """Bytes of their events."""
        return sum(work.size for lane in self.active.values() for work in lane.works)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of events that are not durable."""
        return sum(lane.bytes for lane in self.active.values())

    @property
    def room(self) -> int:
        """Records that may still be read."""
        if self.buffered_bytes >= self.settings.buffer_bytes:
            return 0
        tracked = sum(lane.watermark.pending for lane in self.active.values())
        return int(self.settings.buffer_records - tracked)

    def is_writing(self, keys: Set[Key]) -> bool:
        """Whether a write of any of these keys is under way."""
        return any(lane.is_writing(keys) for lane in self.active.values())

    def leave_settled(self) -> None:
        """Lanes whose records are all settled are active no more."""
        self.active = {p: lane for p, lane in self.active.items() if lane.watermark.pending}

    def made_progress(self) -> None:
        """Something was settled: whoever waits looks again."""
        self._holds.progress()
        self._progress.set()
        self._progress = asyncio.Event()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something that was settled made it true."""
        while not true():
            await self._progress.wait()
