"""The state in one SQLite file: every method is one transaction, synced when it returns."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path

from replicator.model.event import Key
from replicator.model.finding import Difference, Finding
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.phase import Direction
from replicator.model.position import Bookmark, Partition, Place, Positions
from replicator.model.record import Chunk, ChunkState, JournalEntry, MigrationRecord
from replicator.state.database import Database, Row, translated
from replicator.state.encoding import (
    entry_of,
    entry_text,
    key_of,
    key_text,
    keys_text,
    letter_values,
    record_of,
    record_text,
)
from replicator.state.revision import Revision


class SqliteStateStore:
    """`ports.state.StateStore` over SQLite, write-ahead logged and synced at every commit."""

    def __init__(self, database: Database, revision: Revision) -> None:
        """Use `open`."""
        self._database = database
        self._revision = revision

    @classmethod
    async def open(cls, path: str | Path, read_only: bool = False) -> SqliteStateStore:
        """
        Open the state, creating or migrating it; with `read_only` beside a running daemon.

        Raises Refused: "state-locked", "state-version", "state-missing" (read-only, and there
        is none), "config-invalid" (not a state file); Fatal ("state-failed") for the disk.
        """
        database = await Database.open(Path(path), read_only)
        try:
            [(kept,)] = await database.read("revision")
        except BaseException:
            await database.close()
            raise
        return cls(database, Revision(kept))

    async def close(self) -> None:
        await self._database.close()

    # -- the migration and its journal ----------------------------------------------------
    async def load(self) -> MigrationRecord | None:
        rows = await self._database.read("load")
        with translated():
            return record_of(rows[0][0]) if rows else None

    async def save(self, record: MigrationRecord, entry: JournalEntry) -> None:
        async with self._writing():
            await self._save(record, entry)

    async def begin(self, record: MigrationRecord, entry: JournalEntry) -> None:
        async with self._writing():
            for kind in (
                "positions",
                "bookmarks",
                "chunks",
                "findings",
                "documents",
                "open_letters",
            ):
                await self._database.run(f"forget_{kind}")
            await self._save(record, entry)

    async def note(self, entry: JournalEntry) -> None:
        async with self._writing():
            await self._database.run("note", entry=entry_text(entry))

    async def journal(self, limit: int) -> list[JournalEntry]:
        rows = await self._database.read("journal", limit=limit)
        with translated():
            return [entry_of(text) for (text,) in rows]

    async def _save(self, record: MigrationRecord, entry: JournalEntry) -> None:
        [(kept,)] = await self._database.run("revision")
        self._revision.save(record.revision, kept)
        await self._database.run(
            "save",
            attempt=record.attempt,
            revision=record.revision,
            record=record_text(record),
        )
        await self._database.run("note", entry=entry_text(entry))

    # -- clean shutdown -------------------------------------------------------------------
    async def mark_running(self) -> bool:
        async with self._writing():
            rows = await self._database.run("was_clean")
            await self._database.run("mark", clean=0)
            return not rows or bool(rows[0][0])

    async def mark_clean(self) -> None:
        async with self._writing():
            await self._database.run("mark", clean=1)

    # -- positions ------------------------------------------------------------------------
    async def positions(self) -> Positions:
        return {Partition(row[0]): row[1] for row in await self._database.read("positions")}

    async def bookmarks(self) -> dict[Partition, Bookmark]:
        return {
            Partition(partition): Bookmark(offset, at_ms, digest)
            for partition, offset, at_ms, digest in await self._database.read("bookmarks")
        }

    async def commit(
        self,
        positions: Mapping[Partition, int],
        settled: Mapping[Key, Place],
        bookmarks: Mapping[Partition, Bookmark] | None = None,
        *,
        direction: Direction | None = None,
    ) -> None:
        way = None if direction is None else direction.value
        async with self._writing():
            await self._database.run("commit", positions=json.dumps(dict(positions)))
            if bookmarks:
                marks = {
                    partition: [mark.offset, mark.at_ms, mark.digest]
                    for partition, mark in bookmarks.items()
                }
                await self._database.run("mark_place", bookmarks=json.dumps(marks))
            # Nearly always there is no open letter, and then the keys, which may be all that
            # were written since the last commit, need not even be encoded.
            if settled and (await self._database.run("any_open_letter"))[0][0]:
                below = {
                    key_text(key): [place.partition, place.offset]
                    for key, place in settled.items()
                }
                await self._database.run("settle", below=json.dumps(below), direction=way)

    # -- the copy -------------------------------------------------------------------------
    async def add_chunks(self, collection: str, chunks: Sequence[Chunk]) -> None:
        async with self._writing():
            split = (await self._database.run("has_chunks", collection=collection))[0][0]
            assert not split, f"the chunks of {collection!r} are persisted once"
            for chunk in chunks:
                assert chunk.collection == collection, "a chunk of another collection"
                await self._database.run(
                    "add_chunk", collection=collection, number=chunk.number, spec=chunk.spec
                )

    async def chunks(self) -> list[ChunkState]:
        return [
            ChunkState(Chunk(number, collection, spec), cursor, rows, bool(done))
            for number, collection, spec, cursor, rows, done in await self._database.read(
                "chunks"
            )
        ]

    async def advance(self, state: ChunkState) -> None:
        async with self._writing():
            changed, _ = await self._database.change(
                "advance",
                cursor=state.cursor,
                copied=state.rows,
                done=state.done,
                collection=state.chunk.collection,
                number=state.chunk.number,
            )
            assert changed == 1, "progress of a chunk that was never added"

    # -- verification ---------------------------------------------------------------------
    async def add_findings(self, findings: Sequence[Finding]) -> None:
        async with self._writing():
            for finding in findings:
                await self._database.run(
                    "add_finding",
                    event_key=key_text(finding.key),
                    kind=finding.kind.value,
                    detail=finding.detail,
                    generation=finding.generation,
                    at=finding.at,
                )

    async def clear_findings(self, keys: Sequence[Key] | None) -> None:
        async with self._writing():
            if keys is None:
                await self._database.run("forget_findings")
            else:
                await self._database.run("clear_findings", keys=keys_text(keys))

    async def findings(self, limit: int, after: int = 0) -> list[tuple[int, Finding]]:
        return [
            (
                number,
                Finding(
                    key=key_of(key),
                    kind=Difference(kind),
                    detail=detail,
                    generation=generation,
                    at=at,
                ),
            )
            for number, key, kind, detail, generation, at in await self._database.read(
                "findings", limit=limit, after=after
            )
        ]

    async def finding_counts(self) -> dict[str, int]:
        return _counts(Difference, await self._database.read("finding_counts"))

    # -- small documents ------------------------------------------------------------------
    async def put(self, name: str, document: bytes) -> None:
        async with self._writing():
            await self._database.run("put", name=name, document=document)

    async def get(self, name: str) -> bytes | None:
        rows = await self._database.read("get", name=name)
        return bytes(rows[0][0]) if rows else None

    # -- dead letters ---------------------------------------------------------------------
    async def add_letters(self, letters: Sequence[tuple[str, RejectedRecord]]) -> list[int]:
        async with self._writing():
            rows = await self._database.run("attempt")
            attempt = rows[0][0] if rows else 0
            return [await self._index(attempt, *letter) for letter in letters]

    async def _index(self, attempt: int, ref: str, record: RejectedRecord) -> int:
        values = letter_values(ref, record) | {"attempt": attempt}
        known: Sequence[Row]
        if record.partition is not None:
            known = await self._database.run("letter_at_place", **values)
        elif record.event_key is not None:
            known = await self._database.run("open_row_letter", **values)
        else:
            known = await self._database.run("letter_of_row", **values)
        if not known:
            _, added = await self._database.change("add_letter", **values)
            return added
        number, state = known[0]
        if state == LetterState.SETTLED.value:
            await self._database.run("reopen_letter", number=number, **values)
        return int(number)

    async def letters(
        self, state: LetterState | None = None, limit: int = 1000, after: int = 0
    ) -> list[DeadLetter]:
        if state is None:
            rows = await self._database.read("letters", limit=limit, after=after)
        else:
            rows = await self._database.read(
                "letters_in_state", state=state.value, limit=limit, after=after
            )
        return [_letter(row) for row in rows]

    async def letter(self, number: int) -> DeadLetter | None:
        rows = await self._database.read("letter", number=number)
        return _letter(rows[0]) if rows else None

    async def letters_of(self, keys: Sequence[Key]) -> list[DeadLetter]:
        return [
            _letter(row)
            for row in await self._database.read("letters_of", keys=keys_text(keys))
        ]

    async def letter_counts(self, direction: Direction | None = None) -> dict[str, int]:
        if direction is None:
            rows = await self._database.read("letter_counts")
        else:
            rows = await self._database.read("letter_counts_of", direction=direction.value)
        return _counts(LetterState, rows)

    async def close_letters(self, numbers: Sequence[int], state: LetterState, by: str) -> int:
        assert state is not LetterState.OPEN, "a letter is closed as settled or discarded"
        async with self._writing():
            closed, _ = await self._database.change(
                "close_letters",
                numbers=json.dumps(list(numbers)),
                state=state.value,
                closed_by=by,
            )
            return closed

    # -- who writes -----------------------------------------------------------------------
    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """A transaction of the process that the record is of; Fatal ("state-conflict")."""
        async with self._database.transaction():
            [(kept,)] = await self._database.run("revision")
            self._revision.write(kept)
            yield


def _counts(kinds: type[Enum], rows: Sequence[Row]) -> dict[str, int]:
    """A count for every kind, also for those of which there are none."""
    return {kind.value: 0 for kind in kinds} | {row[0]: row[1] for row in rows}


def _letter(row: Row) -> DeadLetter:
    number, ref, state, code, path, message, at, partition, offset, key, direction = row
    return DeadLetter(
        number=number,
        ref=ref,
        state=LetterState(state),
        code=code,
        path=path,
        message=message,
        at=at,
        partition=partition,
        offset=offset,
        event_key=None if key is None else key_of(key),
        direction=Direction(direction),
    )
