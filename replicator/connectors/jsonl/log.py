"""
One collection as an append-only log of lines, with an index in memory of where each id's last
line lies. Plain blocking code for one thread.

The index is brought up to date before every use by reading what was appended since, whoever
appended it. A file that was replaced or cut is indexed anew. Memory: about 200 bytes an id.

Several processes may append: each append holds the file's lock, so the torn line that an append
finds at the end was left by a writer that died. It is cut off, in a file with a header; in
another program's file it stays a line of its own, and is reported as one that is no point.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from replicator.codecs.layout import Layout
from replicator.codecs.points import point_to_json
from replicator.codecs.validation import validate_vectors
from replicator.connectors.jsonl.line import (
    BOM,
    LINE_BYTES_MAX,
    Header,
    encode,
    read_line,
)
from replicator.connectors.jsonl.row import read_row
from replicator.errors import OutcomeUnknown, Refused, Rejected
from replicator.model.point import Point, PointId

_BUFFER_BYTES = 1 << 18


class CollectionLog:
    """The file of one collection, which need not exist."""

    def __init__(self, path: Path, fsync: bool) -> None:
        self.path = path
        self._fsync = fsync
        self._file: BinaryIO | None = None
        self._forget()

    def _forget(self) -> None:
        self.close()
        self.offsets: dict[PointId, int] = {}
        """Where the last line of each id that exists lies."""
        self._unreadable: dict[int, Rejected] = {}
        self.header: Header | None = None
        self._begins_at: int | None = None
        """Where the first header lies: before it are lines of another program."""
        self._nested = False
        """Some line of another program keeps its payload in a field of its own."""
        self.size = 0
        """Bytes that are indexed."""
        self._torn = False
        self._lines = 0

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def layout(self) -> Layout:
        """What the header says of the vectors; without a header, nothing."""
        return Layout() if self.header is None else self.header.schema

    # -- reading --------------------------------------------------------------------------
    def refresh(self) -> bool:
        """Bring the index up to date; whether the file exists."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._forget()
            return False
        if self._file is not None:
            held = os.fstat(self._file.fileno())
            if not os.path.samestat(held, found) or held.st_size < self.size:
                self._forget()
        if self._file is None:
            self._forget()
            self._file = self.path.open("rb", buffering=_BUFFER_BYTES)
        self._index(os.fstat(self._file.fileno()).st_size)
        return True

    def point(self, point_id: PointId) -> Point | None:
        """The point, None when it does not exist. Raises Rejected when its line is no point."""
        offset = self.offsets.get(point_id)
        return None if offset is None else self.parse(offset, self.raw(offset))

    def points(self) -> Iterator[Point]:
        """Every point in the order of the file, but for lines that are none."""
        for offset in sorted(self.offsets.values()):
            with suppress(Rejected):
                yield self.parse(offset, self.raw(offset))

    def parse(self, offset: int, line: bytes) -> Point:
        """The point of the line at an offset. Raises Rejected when it is none."""
        # What stands behind a header is ours, and we write no flat lines.
        foreign = self._begins_at is None or offset < self._begins_at
        point = read_row(line, flat=foreign and not self._nested, scoped=self.layout.scoped)
        # What came as base64 may hold NaN.
        validate_vectors(point.vectors, None, whole=False)
        return point

    def raw(self, offset: int, bytes_max: int = LINE_BYTES_MAX) -> bytes:
        """The line at an offset, without its end; its beginning, if it is longer."""
        assert self._file is not None, "refresh comes first"
        self._file.seek(offset)
        line = self._file.readline(bytes_max).rstrip(b"\r\n")
        return line if offset else line.removeprefix(BOM)

    def _index(self, size: int) -> None:
        assert self._file is not None
        if self._torn:
            # Drop what the reader has buffered: another process may have cut the torn line and
            # written a whole one in its place.
            self._file.seek(0, os.SEEK_END)
        while self.size < size:
            self._file.seek(self.size)
            line = self._file.readline(LINE_BYTES_MAX)
            length = len(line)
            if not line.endswith(b"\n"):
                if length < LINE_BYTES_MAX and not self._complete(line):
                    self._torn = True
                    return
                if length == LINE_BYTES_MAX:
                    length = self._skip(length)
                    line = b""
            self._take(self.size, line, length)
            self.size += length
            self._torn = False

    def _complete(self, line: bytes) -> bool:
        """Whether a last line without an end is whole: other programs leave that end away."""
        with suppress(Rejected):
            read_line(line, self.layout.scoped)
            return True
        return False

    def _skip(self, length: int) -> int:
        """Read over a line that is too long, bit by bit; its length."""
        assert self._file is not None
        while part := self._file.readline(_BUFFER_BYTES):
            length += len(part)
            if part.endswith(b"\n"):
                break
        return length

    def _take(self, offset: int, line: bytes, length: int) -> None:
        if length >= LINE_BYTES_MAX:
            self._unreadable[offset] = Rejected(
                "value-too-large", f"the line has {length} bytes, above {LINE_BYTES_MAX}"
            )
            return
        if offset == 0:
            line = line.removeprefix(BOM)
        if not line.strip():
            return
        self._lines += 1
        try:
            found = read_line(line, self.layout.scoped)
        except Rejected as error:
            self._unreadable[offset] = error
            return
        if isinstance(found, Header):
            self.header = found
            if self._begins_at is None:
                self._begins_at = offset
            return
        self._nested = self._nested or (self._begins_at is None and found.nested)
        if found.deleted:
            self.offsets.pop(found.id, None)
        else:
            self.offsets[found.id] = offset

    def unreadable(self) -> dict[int, Rejected]:
        """
        Lines without an id to be known by, by offset; among them the last line of another
        program's file when it breaks off. In our own file that one belongs to a write that was
        never acknowledged.
        """
        if not self._torn or self.header is not None:
            return self._unreadable
        broken = Rejected("value-malformed", "the last line breaks off")
        return self._unreadable | {self.size: broken}

    # -- writing --------------------------------------------------------------------------
    @contextmanager
    def exclusively(self) -> Iterator[int]:
        """
        Hold the file's lock, the index up to date; gives the descriptor to append to. Raises
        Refused ("target-missing") when there is no file.
        """
        while True:
            try:
                descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            except FileNotFoundError as exc:
                raise Refused("target-missing", f"there is no file {self.path}") from exc
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if not self._is(descriptor):
                    # Compacted or replaced while we waited for the lock: what is appended to
                    # the file under our hands would be lost with it.
                    continue
                self.refresh()
                yield descriptor
                return
            finally:
                os.close(descriptor)

    def _is(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def append(self, descriptor: int, lines: list[bytes]) -> None:
        """
        Append lines, durably, within `exclusively`. Raises OSError when nothing was written,
        OutcomeUnknown when that cannot be known.
        """
        end = self._mend(descriptor)
        data = memoryview(b"".join(line + b"\n" for line in lines))
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError:
            try:
                os.ftruncate(descriptor, end)
            except OSError as exc:
                raise self._unknown(exc) from exc
            raise
        try:
            if self._fsync:
                os.fsync(descriptor)
        except OSError as exc:
            raise self._unknown(exc) from exc
        self.refresh()

    def _mend(self, descriptor: int) -> int:
        """Make the file end where a line ends; where that is."""
        end = os.fstat(descriptor).st_size
        if self._torn and self.header is not None:
            os.ftruncate(descriptor, self.size)
            return self.size
        assert self._file is not None
        if end and os.pread(self._file.fileno(), 1, end - 1) != b"\n":
            os.write(descriptor, b"\n")
            return end + 1
        return end

    def _unknown(self, exc: OSError) -> OutcomeUnknown:
        self._forget()
        return OutcomeUnknown("outcome-unknown", f"{self.path}: {exc}")

    def compact(self) -> None:
        """Leave one line a point, after the header. Within `exclusively`."""
        # Lines that are no points are nobody's to throw away.
        places = sorted([*self.offsets.values(), *self.unreadable()])
        if self._torn or len(places) + (self.header is not None) < self._lines:
            replace(self.path, self._compacted(places))
            self.refresh()

    def _compacted(self, places: list[int]) -> Iterator[bytes]:
        assert self._file is not None
        if self.header is not None:
            yield encode(self.header) + b"\n"
        for offset in places:
            if self._begins_at is not None and offset < self._begins_at:
                # It comes to stand behind the header, where lines are read as our own.
                with suppress(Rejected):
                    yield point_to_json(self.parse(offset, self.raw(offset))) + b"\n"
                    continue
            self._file.seek(offset)
            while (part := self._file.readline(_BUFFER_BYTES)) and not part.endswith(b"\n"):
                yield part
            yield part or b"\n"


def create(path: Path, header: Header) -> None:
    """Make the file unless it exists, empty but for a header; its directory too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Two that create at once: the second must not replace what the first has filled.
        fcntl.flock(directory, fcntl.LOCK_EX)
        if not path.exists():
            replace(path, [encode(header) + b"\n"])
    finally:
        os.close(directory)


def replace(path: Path, parts: Iterable[bytes]) -> None:
    """Put a new file in the place of the old one, atomically and durably."""
    # One name is enough: whoever replaces holds the file's lock, or the directory's.
    fresh = path.with_name(f"{path.name}.new")
    try:
        with fresh.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
