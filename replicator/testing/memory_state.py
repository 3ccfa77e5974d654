"""
A state store in memory that processes can die on.

The data outlive the process that wrote them: `attach()` gives an incarnation of the program its
own view, and `detach()` ends it as `kill -9` would. Every call yields before and after its
effect, so that a crash can be put at each of these points: a call that dies before has changed
nothing, one that dies after has changed everything and its caller never learns of it.

What crosses the border is encoded as in the SQLite store, so no object is shared and what one
store cannot hold the other cannot either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from itertools import islice

import msgspec

from replicator.errors import Refused
from replicator.model.event import Key
from replicator.model.finding import Difference, Finding
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.phase import Direction
from replicator.model.position import Bookmark, Partition, Place, Positions
from replicator.model.record import Chunk, ChunkState, JournalEntry, MigrationRecord
from replicator.state.encoding import (
    entry_of,
    entry_text,
    key_text,
    plain,
    record_of,
    record_text,
    row_digest,
)
from replicator.state.revision import Revision


class Dead(BaseException):
    """The process that made this call is dead; nothing it does has an effect any more."""


class _Data:
    """What lies on the disk."""

    def __init__(self) -> None:
        self.record: str | None = None
        self.revision = 0
        self.journal: list[str] = []
        self.clean: bool | None = None
        self.positions: Positions = {}
        self.bookmarks: dict[Partition, Bookmark] = {}
        self.chunks: dict[tuple[str, int], ChunkState] = {}
        self.findings: dict[str, tuple[int, Finding]] = {}
        self.finding_numbers = 0
        self.documents: dict[str, bytes] = {}
        self.letters: dict[int, DeadLetter] = {}
        self.letter_numbers = 0
        self.places: dict[tuple[object, ...], int] = {}
        """Which letter a place in the log has, or a row without an id."""
        self.holder: MemoryStateStore | None = None

    @property
    def attempt(self) -> int:
        return record_of(self.record).attempt if self.record is not None else 0


class MemoryStateStore:
    """`ports.state.StateStore` in memory. Usable as it is, or through views of `attach`."""

    def __init__(self, latency: Callable[[], float] | None = None) -> None:
        """`latency` gives the seconds of each wait before and after an effect; 0 without."""
        self._data = _Data()
        self._latency = latency or _no_time
        self._revision = Revision(0)
        self._alive = True
        self._closed = False

    def attach(self) -> MemoryStateStore:
        """
        A view for one incarnation of the program. Raises Refused ("state-locked") while
        another one is neither closed nor detached.
        """
        if self._data.holder is not None:
            raise Refused("state-locked", "another incarnation holds the state")
        view = MemoryStateStore(self._latency)
        view._data = self._data
        view._revision = Revision(self._data.revision)
        self._data.holder = view
        return view

    def unlock(self) -> None:
        """Forget who holds the state, as a file system does that ignores locks."""
        self._data.holder = None

    def detach(self) -> None:
        """The process died: from now on every call raises Dead, and none changes the data."""
        self._alive = False
        self._release()

    async def close(self) -> None:
        async with self._call():
            held = self._release()
        self._closed = held

    # -- the migration and its journal ----------------------------------------------------
    async def load(self) -> MigrationRecord | None:
        async with self._call():
            text = self._data.record
            return None if text is None else record_of(text)

    async def save(self, record: MigrationRecord, entry: JournalEntry) -> None:
        async with self._writing():
            self._save(record, entry)

    async def begin(self, record: MigrationRecord, entry: JournalEntry) -> None:
        async with self._writing():
            self._save(record, entry)
            data = self._data
            data.positions, data.bookmarks = {}, {}
            data.chunks, data.findings, data.documents = {}, {}, {}
            gone = {n for n, letter in data.letters.items() if letter.state is LetterState.OPEN}
            data.letters = {n: letter for n, letter in data.letters.items() if n not in gone}
            data.places = {place: n for place, n in data.places.items() if n not in gone}

    async def note(self, entry: JournalEntry) -> None:
        async with self._writing():
            self._data.journal.append(entry_text(entry))

    async def journal(self, limit: int) -> list[JournalEntry]:
        async with self._call():
            newest = self._data.journal[-limit:] if limit else []
            return [entry_of(text) for text in newest]

    def _save(self, record: MigrationRecord, entry: JournalEntry) -> None:
        saved, noted = record_text(record), entry_text(entry)
        self._revision.save(record.revision, self._data.revision)
        self._data.record, self._data.revision = saved, record.revision
        self._data.journal.append(noted)

    # -- clean shutdown -------------------------------------------------------------------
    async def mark_running(self) -> bool:
        async with self._writing():
            was_clean = self._data.clean is not False
            self._data.clean = False
            return was_clean

    async def mark_clean(self) -> None:
        async with self._writing():
            self._data.clean = True

    # -- positions ------------------------------------------------------------------------
    async def positions(self) -> Positions:
        async with self._call():
            return dict(self._data.positions)

    async def bookmarks(self) -> dict[Partition, Bookmark]:
        async with self._call():
            return dict(self._data.bookmarks)

    async def commit(
        self,
        positions: Mapping[Partition, int],
        settled: Mapping[Key, Place],
        bookmarks: Mapping[Partition, Bookmark] | None = None,
        *,
        direction: Direction | None = None,
    ) -> None:
        async with self._writing():
            self._data.positions.update(positions)
            self._data.bookmarks.update(bookmarks or {})
            for number, letter in self._data.letters.items():
                place = None if letter.event_key is None else settled.get(letter.event_key)
                if letter.state is not LetterState.OPEN:
                    continue
                if direction not in (None, letter.direction):
                    continue
                if place is not None and _is_before(letter, place):
                    self._data.letters[number] = _in_state(letter, LetterState.SETTLED)

    # -- the copy -------------------------------------------------------------------------
    async def add_chunks(self, collection: str, chunks: Sequence[Chunk]) -> None:
        async with self._writing():
            known = {of for of, _ in self._data.chunks}
            assert collection not in known, f"the chunks of {collection!r} are persisted once"
            for chunk in chunks:
                assert chunk.collection == collection, "a chunk of another collection"
            self._data.chunks |= {(collection, c.number): ChunkState(c) for c in chunks}

    async def chunks(self) -> list[ChunkState]:
        async with self._call():
            return [state for _, state in sorted(self._data.chunks.items())]

    async def advance(self, state: ChunkState) -> None:
        async with self._writing():
            place = (state.chunk.collection, state.chunk.number)
            assert place in self._data.chunks, "progress of a chunk that was never added"
            chunk = self._data.chunks[place].chunk
            self._data.chunks[place] = ChunkState(chunk, state.cursor, state.rows, state.done)

    # -- verification ---------------------------------------------------------------------
    async def add_findings(self, findings: Sequence[Finding]) -> None:
        async with self._writing():
            data = self._data
            for finding in findings:
                text = key_text(finding.key)
                if text in data.findings:
                    number = data.findings[text][0]
                else:
                    data.finding_numbers = number = data.finding_numbers + 1
                data.findings[text] = number, finding

    async def clear_findings(self, keys: Sequence[Key] | None) -> None:
        async with self._writing():
            if keys is None:
                self._data.findings = {}
            for key in keys or ():
                self._data.findings.pop(key_text(key), None)

    async def findings(self, limit: int, after: int = 0) -> list[tuple[int, Finding]]:
        async with self._call():
            rows = sorted(self._data.findings.values(), key=lambda row: row[0])
            return list(islice((row for row in rows if row[0] > after), limit))

    async def finding_counts(self) -> dict[str, int]:
        async with self._call():
            return _counts(
                Difference, [found.kind for _, found in self._data.findings.values()]
            )

    # -- small documents ------------------------------------------------------------------
    async def put(self, name: str, document: bytes) -> None:
        async with self._writing():
            self._data.documents[name] = bytes(document)

    async def get(self, name: str) -> bytes | None:
        async with self._call():
            return self._data.documents.get(name)

    # -- dead letters ---------------------------------------------------------------------
    async def add_letters(self, letters: Sequence[tuple[str, RejectedRecord]]) -> list[int]:
        async with self._writing():
            return [self._index(ref, record) for ref, record in letters]

    def _index(self, ref: str, record: RejectedRecord) -> int:
        data = self._data
        letter = DeadLetter(
            number=0,
            ref=plain(ref),
            state=LetterState.OPEN,
            code=record.code,
            path=plain(record.path),
            message=plain(record.message),
            at=record.at,
            partition=record.partition,
            offset=record.offset,
            event_key=record.event_key,
            direction=record.direction,
        )
        row = row_digest(record)
        place: tuple[object, ...] = (data.attempt, record.partition, record.offset, row)
        known = self._known(letter, place)
        if known is None:
            data.letter_numbers += 1
            known = data.letter_numbers
        elif data.letters[known].state is not LetterState.SETTLED:
            return known
        data.letters[known] = msgspec.structs.replace(letter, number=known)
        data.places[place] = known
        return known

    def _known(self, letter: DeadLetter, place: tuple[object, ...]) -> int | None:
        if letter.partition is not None or letter.event_key is None:
            return self._data.places.get(place)
        for number, other in self._data.letters.items():
            same = other.partition is None and other.event_key == letter.event_key
            if same and other.state is LetterState.OPEN:
                return number
        return None

    async def letters(
        self, state: LetterState | None = None, limit: int = 1000, after: int = 0
    ) -> list[DeadLetter]:
        async with self._call():
            found = (
                letter
                for number, letter in sorted(self._data.letters.items())
                if number > after and state in (None, letter.state)
            )
            return list(islice(found, limit))

    async def letter(self, number: int) -> DeadLetter | None:
        async with self._call():
            return self._data.letters.get(number)

    async def letters_of(self, keys: Sequence[Key]) -> list[DeadLetter]:
        async with self._call():
            wanted = set(keys)
            return [
                letter
                for _, letter in sorted(self._data.letters.items())
                if letter.state is LetterState.OPEN and letter.event_key in wanted
            ]

    async def letter_counts(self, direction: Direction | None = None) -> dict[str, int]:
        async with self._call():
            return _counts(
                LetterState,
                [
                    letter.state
                    for letter in self._data.letters.values()
                    if direction in (None, letter.direction)
                ],
            )

    async def close_letters(self, numbers: Sequence[int], state: LetterState, by: str) -> int:
        assert state is not LetterState.OPEN, "a letter is closed as settled or discarded"
        assert by, "somebody closed it"
        async with self._writing():
            letters = self._data.letters
            closed = [
                number
                for number in dict.fromkeys(numbers)
                if number in letters and letters[number].state is LetterState.OPEN
            ]
            for number in closed:
                letters[number] = _in_state(letters[number], state)
            return len(closed)

    # -- life and death -------------------------------------------------------------------
    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        await self._step()
        yield
        await self._step()

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        async with self._call():
            self._revision.write(self._data.revision)
            yield

    async def _step(self) -> None:
        assert not self._closed, "a view is not used after it was closed"
        if self._alive:
            await asyncio.sleep(self._latency())
        if not self._alive:
            raise Dead

    def _release(self) -> bool:
        """Whether this was a view that held the state."""
        held = self._data.holder is self
        if held:
            self._data.holder = None
        return held


def _no_time() -> float:
    return 0.0


def _is_before(letter: DeadLetter, place: Place) -> bool:
    """Whether a later event at this place makes up for the letter."""
    if letter.partition is None or letter.offset is None:
        return letter.partition is None
    return letter.partition == place.partition and letter.offset < place.offset


def _in_state(letter: DeadLetter, state: LetterState) -> DeadLetter:
    return msgspec.structs.replace(letter, state=state)


def _counts(kinds: type[Enum], seen: Sequence[Enum]) -> dict[str, int]:
    return {kind.value: sum(1 for one in seen if one is kind) for kind in kinds}
