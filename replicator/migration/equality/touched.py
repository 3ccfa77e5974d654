"""
The keys that the log names between two positions, in passes that memory can hold.

A pass reads the log and keeps the keys of one residue of a hash, each with the log's last word
where that is wanted. When they are more, in number or bytes, than may be held at once, the pass
is given up, and two of half its keys take its place.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping

import msgspec

from replicator.codecs.keys import encode_key
from replicator.errors import Blocked, Refused
from replicator.migration.equality.reference_fold import LastWord
from replicator.model.event import ChangeEvent, Key
from replicator.model.position import Partition, Positions
from replicator.ports.feed import ChangeFeed
from replicator.stream.coalesce import VersionWindow
from replicator.stream.intake import Intake

_HASHES = 1 << 32
_KEY_BYTES = 300
"""About what a key and its place take beside the word."""


class _TooMany(Exception):
    """More than one pass may hold."""


class Touch(msgspec.Struct):
    """What is kept of a key."""

    word: LastWord | None
    bytes: int = 0
    """Of its largest record: what its image may take, as far as the log tells."""


Touches = Mapping[Key, Touch]


class Touched:
    """Reads the log as often as it takes. Raises Refused("log-truncated") when it lost some."""

    def __init__(
        self,
        *,
        feed: ChangeFeed,
        intake: Intake,
        begin: Positions,
        end: Positions,
        versions: VersionWindow,
        keys_max: int,
        bytes_max: int,
    ) -> None:
        """`versions`: what the store held when the stream came to rest, so that an image that
        lost against one from before `begin` loses here too.
        """
        self._feed = feed
        self._intake = intake
        self._begin = begin
        self._end = end
        self._versions = versions
        self._keys_max = keys_max
        self._bytes_max = bytes_max

    async def passes(self, *, words: bool) -> AsyncIterator[Touches]:
        """Every key once, with its word if `words`."""
        parts = [(0, 1)]
        while parts:
            residue, modulus = parts.pop()
            try:
                found = await self._read(_of_residue(residue, modulus), words, modulus)
            except _TooMany:
                parts += [(residue + modulus, modulus * 2), (residue, modulus * 2)]
            else:
                yield found
                del found  # before the next is read: one pass at a time is held

    async def words(self, keys: Collection[Key]) -> Touches:
        """A few keys, with their words."""
        return await self._read(keys.__contains__, True, _HASHES)

    async def _read(self, ours: Callable[[Key], bool], words: bool, modulus: int) -> Touches:
        found: dict[Key, Touch] = {}
        held = largest = 0
        for partition, stop in self._end.items():
            async for event, size in self._events(
                partition, self._begin.get(partition, stop), stop, ours
            ):
                if event.key not in found:
                    if len(found) >= self._keys_max and modulus < _HASHES:
                        raise _TooMany
                    word = LastWord(self._versions.of(event.key)) if words else None
                    found[event.key] = Touch(word)
                    held += _KEY_BYTES
                touch = found[event.key]
                touch.bytes = max(touch.bytes, size)
                if (word := touch.word) is not None:
                    held -= word.bytes
                    word.read(event)
                    held += word.bytes
                    # One that is larger than all may be gains nothing from company.
                    largest = max(largest, word.bytes)
                if held - largest > self._bytes_max and modulus < _HASHES:
                    raise _TooMany
        return found

    async def _events(
        self, partition: Partition, start: int, stop: int, ours: Callable[[Key], bool]
    ) -> AsyncIterator[tuple[ChangeEvent, int]]:
        """Each with the bytes of its record."""
        if start >= stop:
            return
        try:
            async for records in self._feed.read(partition, start, stop):
                for record in records:
                    key = self._intake.key(record)
                    if key is None or not ours(key):
                        continue
                    event = self._intake.event(record)
                    if isinstance(event, ChangeEvent):
                        yield event, record.size
        except Blocked as error:
            if error.code != "log-truncated":
                raise  # what no verification mends
            raise Refused(
                "log-truncated", f"{error.message}; verify again, then try again"
            ) from error


def _of_residue(residue: int, modulus: int) -> Callable[[Key], bool]:
    if modulus == 1:
        return lambda _key: True
    return lambda key: zlib.crc32(encode_key(key)) % modulus == residue
