"""
A log in memory that behaves as a broker does: partitions with offsets and gaps, open
transactions, truncation, growth, a group that anybody can commit to, and absence.

`MemoryLog` is the broker, and what producers write to. `attach()` gives a reader, which is the
feed port; `detach()` ends one as the death of its process would. Offsets of control records and
of aborted records are gaps that only the feed's own positions step over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from zlib import crc32

from replicator import clock
from replicator.clock import Clock
from replicator.errors import Blocked, Unavailable
from replicator.model.position import (
    Bookmark,
    Bounds,
    LogIdentity,
    Partition,
    Place,
    Polled,
    Positions,
    Record,
    bookmark_of,
)
from replicator.testing.faults import Fault, Faults

Partitioner = Callable[[bytes, int], int]
"""Key and partition count → partition number."""


def by_crc32(key: bytes, partitions: int) -> int:
    """A partitioner that is nobody's in particular."""
    return crc32(key) % partitions


class _Partition:
    """The entries of one partition; an entry that is None holds an offset and no record."""

    def __init__(self) -> None:
        self.start = 0
        self.entries: list[Record | None] = []
        self.open_from: int | None = None
        """First offset of the transaction that is open."""

    @property
    def end(self) -> int:
        return self.start + len(self.entries)

    @property
    def stable(self) -> int:
        return self.end if self.open_from is None else self.open_from


class MemoryLog:
    """
    The broker's side, and the producer's: the port EventLog.

    `wall` gives the log's own time of a record in seconds. Producers' faults (duplicates,
    control records) are drawn as records are appended. A log that is not `identified` has no
    id, as on an old broker: only its records tell it from one made anew.
    """

    def __init__(
        self,
        topic: str = "changes",
        *,
        partitions: int = 1,
        partitioner: Partitioner = by_crc32,
        faults: Faults | None = None,
        wall: Clock = clock.wall,
        identified: bool = True,
    ) -> None:
        self.topic = topic
        self.identified = identified
        self._made = 1
        self.faults = faults or Faults()
        self.away = False
        """The broker answers nobody."""
        self.glitch = False
        """The broker answers for a topic with one partition more."""
        self.damaged = False
        """The log cannot be read."""
        self.group: Positions = {}
        """What our group has committed, by whomever."""
        self.members: list[str] = []
        """Foreign members of our group."""
        self._partitioner = partitioner
        self._wall = wall
        self._logs = [_Partition() for _ in range(partitions)]
        self._arrived = asyncio.Event()

    def attach(self) -> MemoryFeed:
        """A reader of its own, for one incarnation of the program."""
        return MemoryFeed(self)

    @property
    def identity(self) -> LogIdentity:
        """Another one each time that it is made anew."""
        return LogIdentity(f"{self.topic} {self._made}" if self.identified else None)

    def make_anew(self) -> None:
        """Delete the log, and make an empty one under its name."""
        self._made += 1
        self._logs = [_Partition() for _ in self._logs]
        self.wake()

    @property
    def partitions(self) -> int:
        """How many there are."""
        return len(self._logs)

    def name(self, number: int) -> Partition:
        """The partition's name as the model has it."""
        return Partition(f"{self.topic}/{number}")

    # -- producers ------------------------------------------------------------------------
    async def append(
        self,
        records: Sequence[tuple[bytes | None, bytes | None]],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> list[Place]:
        """The port EventLog: durable at once."""
        written = [self.produce(key, value, headers=tuple(headers)) for key, value in records]
        return [Place(self.name(number), offset) for number, offset in written]

    async def close(self) -> None:
        """Nothing to flush."""

    def produce(
        self,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> tuple[int, int]:
        """Append one record; returns its partition's number and its offset."""
        if partition is None:
            partition = self._partitioner(key or b"", len(self._logs))
        log = self._logs[partition]
        if self.faults.strikes(Fault.GAP):
            log.entries.append(None)
        offset = log.end
        copies = 2 if self.faults.strikes(Fault.DUPLICATE) else 1
        for _ in range(copies):
            log.entries.append(
                Record(
                    partition=self.name(partition),
                    offset=log.end,
                    key=key,
                    value=value,
                    at_ms=int(self._wall() * 1000),
                    headers=headers,
                )
            )
        self.wake()
        return partition, offset

    def begin_transaction(self, partition: int) -> None:
        """From here on, records of the partition are not stable until the transaction ends."""
        log = self._logs[partition]
        if log.open_from is None:
            self.faults.fire(Fault.TRANSACTION)
            log.open_from = log.end

    def end_transaction(self, partition: int, *, commit: bool = True) -> None:
        """Write the marker; an aborted transaction leaves only gaps."""
        log = self._logs[partition]
        if log.open_from is None:
            return
        if not commit:
            for index in range(log.open_from - log.start, len(log.entries)):
                log.entries[index] = None
        log.entries.append(None)
        log.open_from = None
        self.wake()

    def grow(self, partitions: int) -> None:
        """More partitions: keys written from now on may go elsewhere."""
        self.faults.fire(Fault.PARTITIONS_GROWN)
        self._logs.extend(_Partition() for _ in range(partitions - len(self._logs)))
        self.wake()

    def truncate(self, partition: int, start: int) -> None:
        """Retention: drop what lies before `start`."""
        log = self._logs[partition]
        assert log.start <= start <= log.end
        del log.entries[: start - log.start]
        log.start = start
        self.wake()

    # -- what readers ask -----------------------------------------------------------------
    def bounds(self) -> dict[Partition, Bounds]:
        """The truth, as a broker would tell it just now."""
        found = {
            self.name(number): Bounds(start=log.start, end=log.end, stable=log.stable)
            for number, log in enumerate(self._logs)
        }
        if self.glitch:
            found[self.name(len(self._logs))] = Bounds(start=0, end=0, stable=0)
        return found

    def holds(self, partition: Partition) -> bool:
        """Whether there is such a partition."""
        return int(partition.rpartition("/")[2]) < len(self._logs)

    def log_of(self, partition: Partition) -> _Partition:
        """A partition by name."""
        return self._logs[int(partition.rpartition("/")[2])]

    def records(self) -> list[Record]:
        """Every record that is held and visible, by partition and offset."""
        return [
            entry
            for log in self._logs
            for entry in log.entries[: log.stable - log.start]
            if entry is not None
        ]

    async def changed(self, timeout_s: float) -> None:
        """Wait until something is appended, at most so long."""
        arrived = self._arrived
        try:
            async with asyncio.timeout(timeout_s):
                await arrived.wait()
        except TimeoutError:
            return

    def wake(self) -> None:
        """Let waiting readers look again."""
        self._arrived.set()
        self._arrived = asyncio.Event()


class MemoryFeed:
    """One incarnation's reader of a MemoryLog: the ports ChangeFeed and GroupWatch."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._positions: Positions = {}
        self._expected = 0
        self._paused: set[Partition] = set()
        self._told: LogIdentity | None = None
        self._opened: LogIdentity | None = None
        self._attached = True
        self._ours: Positions = {}
        """What we have committed to the group."""

    def detach(self) -> None:
        """The process behind this reader is dead: its calls have no effect any more."""
        self._attached = False

    async def bounds(self) -> dict[Partition, Bounds]:
        """Of every partition, as the broker says now."""
        await self._travel()
        if self._log.damaged:
            raise Blocked("log-truncated", f"{self._log.topic} is damaged")
        return self._log.bounds()

    async def identity(self) -> LogIdentity:
        """As the log is now."""
        await self._travel()
        self._told = self._log.identity
        return self._told

    async def bookmarks_at(self, offsets: Mapping[Partition, int]) -> dict[Partition, Bookmark]:
        """Of what is held and visible."""
        await self._travel()
        wanted = set(offsets.items())
        return {
            record.partition: bookmark_of(record)
            for record in self._log.records()
            if (record.partition, record.offset) in wanted
        }

    async def open(
        self, positions: Mapping[Partition, int], partitions: int | None = None
    ) -> None:
        """Start over at these positions."""
        await self._travel()
        self._opened = self._told or self._log.identity
        self._positions = dict(positions)
        self._expected = len(positions) if partitions is None else partitions
        self._paused.clear()
        self._check()

    async def poll(self, records_max: int, timeout_s: float) -> Polled:
        """Prefixes of what the partitions hold, a few of them or all."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        await self._travel()
        while True:
            self._check()
            polled = self._take(records_max)
            left = deadline - loop.time()
            if polled.records or polled.positions or left <= 0:
                return polled
            await self._log.changed(left)
            self._alive()
            if self._log.away:
                raise _away()

    def pause(self, partitions: Collection[Partition]) -> None:
        """Return no records of these."""
        if self._attached:
            self._paused.update(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        """Return them again."""
        if self._attached:
            self._paused.difference_update(partitions)
            self._log.wake()

    async def publish(self, positions: Mapping[Partition, int]) -> None:
        """Commit to the group."""
        await self._travel()
        self._log.group.update(positions)
        self._ours.update(positions)

    async def read(
        self, partition: Partition, start: int, end: int
    ) -> AsyncIterator[list[Record]]:
        """Pages of arbitrary length; records of an open transaction are waited for."""
        place = start
        while place < end:
            await self._travel()
            self._check_identity()
            log = self._log.log_of(partition)
            if not log.start <= place <= log.end:
                raise _not_held(partition, place, log.start, log.end)
            until = min(end, log.stable)
            if place >= until:
                await self._log.changed(0.1)
                continue
            if until - place > 1 and self._log.faults.strikes(Fault.SHORT_POLL):
                until = self._log.faults.random.randrange(place + 1, until + 1)
            page = [
                entry
                for entry in log.entries[place - log.start : until - log.start]
                if entry is not None
            ]
            place = until
            if page:
                yield page

    async def intruders(self, published: Positions) -> list[str]:
        """Foreign members, and positions that are not ours."""
        await self._travel()
        found = [f"{member} is a member of our group" for member in self._log.members]
        for partition, committed in self._log.group.items():
            ours = published.get(partition)
            if ours is not None and committed not in {ours, self._ours.get(partition)}:
                found.append(f"{partition} is committed at {committed}, not at our {ours}")
        return found

    async def close(self) -> None:
        """Nothing to let go of."""

    def _take(self, records_max: int) -> Polled:
        faults = self._log.faults
        records: list[Record] = []
        positions: Positions = {}
        # Of a partition that is not there nothing comes; whoever asks for bounds learns of it.
        partitions = [
            name
            for name in self._positions
            if name not in self._paused and self._log.holds(name)
        ]
        faults.random.shuffle(partitions)
        for partition in partitions:
            log, place = self._log.log_of(partition), self._positions[partition]
            until = log.stable
            if until <= place:
                continue
            if faults.strikes(Fault.SHORT_POLL):
                until = faults.random.randrange(place, until + 1)
            taken = place
            for entry in log.entries[place - log.start : until - log.start]:
                if entry is not None:
                    if len(records) == records_max:
                        break
                    records.append(entry)
                taken += 1
            if taken > place:
                self._positions[partition] = positions[partition] = taken
        return Polled(records=records, positions=positions)

    def _check_identity(self) -> None:
        ours, found = self._opened or self._told, self._log.identity
        if ours is not None and ours.id is not None and found != ours:
            raise Blocked("log-replaced", f"{self._log.topic} is {found.id}, not {ours.id}")

    def _check(self) -> None:
        """What ends reading for good."""
        self._check_identity()
        bounds = self._log.bounds()
        if len(bounds) != self._expected or not bounds.keys() >= self._positions.keys():
            raise Blocked(
                "partitions-changed",
                f"{self._log.topic} has {len(bounds)} partitions, not {self._expected}",
            )
        for partition, place in self._positions.items():
            held = bounds[partition]
            if not held.start <= place <= held.end:
                raise _not_held(partition, place, held.start, held.end)

    def _alive(self) -> None:
        if not self._attached:
            # What a dead process does next: nothing.
            raise asyncio.CancelledError

    async def _travel(self) -> None:
        self._alive()
        await asyncio.sleep(self._log.faults.latency())
        self._alive()
        if self._log.away or self._log.faults.strikes(Fault.BROKER_AWAY):
            raise _away()


def _away() -> Unavailable:
    return Unavailable("feed-unavailable", "the broker does not answer")


def _not_held(partition: Partition, place: int, start: int, end: int) -> Blocked:
    return Blocked(
        "log-truncated" if place < start else "log-replaced",
        f"{partition} starts at {start} and ends at {end}, our position is {place}",
    )
