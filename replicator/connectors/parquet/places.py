"""
Where files lie: a directory of this machine, or a file system behind a URL.

What is put somewhere is there as a whole, durably, or not at all. On this machine by a file of
another name that is synced and renamed, and a directory that is synced; an object store does so
by itself, once an upload ends. Plain blocking code.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow as pa
from pyarrow import fs

from replicator.errors import OutcomeUnknown, Refused
from replicator.extras import needed_for

TMP = ".tmp"


class Found(msgspec.Struct, frozen=True):
    """A file or a folder within a folder. `stamp` is another one once a file has changed."""

    name: str
    is_folder: bool
    stamp: Hashable = None


class Put(msgspec.Struct, frozen=True):
    """What was put: its size and its SHA-256."""

    bytes: int
    sha256: str


class Place(Protocol):
    """
    Paths are relative, with slashes. Raises OSError, and OutcomeUnknown where a file may be
    there, or may not survive.
    """

    def show(self, path: str) -> str:
        """A path as a person finds it."""
        ...

    def within(self, path: str) -> list[Found] | None:
        """What is in a folder, by name; None where there is no folder."""
        ...

    def stamp(self, path: str) -> Hashable:
        """Another one once the file has changed; None where there is no file."""
        ...

    def read(self, path: str) -> bytes:
        """A small file."""
        ...

    def open(self, path: str, digest: str | None) -> Any:
        """A file for pyarrow. Raises Refused("file-damaged") when its digest is not this."""
        ...

    def put(self, path: str, write: Callable[[Any], None]) -> Put:
        """Put a file, in the place of one that is there."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        ...

    def exclusively(self, path: str) -> Any:
        """A context in which no other process changes a folder, which is made."""
        ...


class LocalPlace:
    """A directory of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def show(self, path: str) -> str:
        """As in Place."""
        return str(self._root / path)

    def within(self, path: str) -> list[Found] | None:
        """As in Place."""
        try:
            entries = sorted((self._root / path).iterdir())
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            return None
        return [Found(each.name, each.is_dir(), _stamp(each)) for each in entries]

    def stamp(self, path: str) -> Hashable:
        """As in Place."""
        place = self._root / path
        return _stamp(place) if place.is_file() else None

    def read(self, path: str) -> bytes:
        """As in Place."""
        return (self._root / path).read_bytes()

    def open(self, path: str, digest: str | None) -> Any:
        """As in Place."""
        place = self._root / path
        if digest is not None:
            with place.open("rb") as file:
                found = file_digest(file, "sha256").hexdigest()
            _compare(found, digest, str(place))
        # Not mapped: a file that is cut meanwhile would end the process.
        return pa.OSFile(str(place))

    def put(self, path: str, write: Callable[[Any], None]) -> Put:
        """As in Place."""
        place = self._root / path
        fresh = place.with_name(place.name + TMP)
        try:
            with fresh.open("w+b") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
                file.seek(0)
                digest = file_digest(file, "sha256").hexdigest()
            fresh.replace(place)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        try:
            _sync(place.parent)
        except OSError as exc:
            raise OutcomeUnknown("outcome-unknown", f"{place}: {exc}") from exc
        return Put(size, digest)

    def remove(self, path: str) -> None:
        """As in Place."""
        (self._root / path).unlink(missing_ok=True)

    @contextmanager
    def exclusively(self, path: str) -> Iterator[None]:
        """As in Place, by a lock of the folder."""
        place = self._root / path
        if not place.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            _sync(place.parent)
        folder = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


class RemotePlace:
    """
    A folder of a file system that pyarrow knows, or fsspec. There are no locks: nobody else may
    write there.
    """

    def __init__(self, url: str) -> None:
        """Connects to nothing yet."""
        self._url = url.rstrip("/")
        self._opened: tuple[Any, str] | None = None

    def _at(self, path: str) -> tuple[Any, str]:
        if self._opened is None:
            self._opened = _file_system(self._url)
        system, base = self._opened
        return system, f"{base.rstrip('/')}/{path}"

    def show(self, path: str) -> str:
        """As in Place; without the query, which holds settings."""
        return f"{self._url.partition('?')[0]}/{path}"

    def within(self, path: str) -> list[Found] | None:
        """As in Place."""
        system, place = self._at(path)
        entries = system.get_file_info(fs.FileSelector(place, allow_not_found=True))
        found = [Found(each.base_name, not each.is_file, _info(each)) for each in entries]
        return sorted(found, key=lambda each: each.name) or None

    def stamp(self, path: str) -> Hashable:
        """As in Place."""
        system, place = self._at(path)
        [info] = system.get_file_info([place])
        return _info(info) if info.is_file else None

    def read(self, path: str) -> bytes:
        """As in Place."""
        system, place = self._at(path)
        with system.open_input_file(place) as file:
            return bytes(file.read())

    def open(self, path: str, digest: str | None) -> Any:
        """As in Place. What is compared is read once, and held: a part of ours is small."""
        system, place = self._at(path)
        if digest is None:
            return system.open_input_file(place)
        data = self.read(path)
        _compare(sha256(data).hexdigest(), digest, self.show(path))
        return pa.BufferReader(data)

    def put(self, path: str, write: Callable[[Any], None]) -> Put:
        """As in Place."""
        # Whole before it is sent: an upload that is closed after an error counts as complete.
        sink = pa.BufferOutputStream()
        write(sink)
        data = sink.getvalue()
        system, place = self._at(path)
        try:
            with system.open_output_stream(place) as file:
                file.write(data)
        except OSError as exc:
            raise OutcomeUnknown("outcome-unknown", f"{self.show(path)}: {exc}") from exc
        return Put(data.size, sha256(data).hexdigest())

    def remove(self, path: str) -> None:
        """As in Place."""
        system, place = self._at(path)
        if self.stamp(path) is not None:
            system.delete_file(place)

    @contextmanager
    def exclusively(self, path: str) -> Iterator[None]:
        """There is nothing to be locked, or made."""
        del path
        yield


def _file_system(url: str) -> tuple[Any, str]:
    """Raises Refused for a scheme that nobody knows, or a query that is not understood."""
    try:
        system, base = fs.FileSystem.from_uri(url)
    except pa.ArrowInvalid as exc:
        if "Unrecognized filesystem type" not in str(exc):
            raise Refused("config-invalid", f"path: {exc}") from exc
        return _by_fsspec(url)
    return system, base


def _by_fsspec(url: str) -> tuple[Any, str]:
    with needed_for(f"the path {url.partition('?')[0]}", "parquet"):
        import fsspec  # noqa: PLC0415 - only where pyarrow does not know the scheme
    try:
        system, base = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as exc:
        raise Refused("config-invalid", f"path: {exc}") from exc
    return fs.PyFileSystem(fs.FSSpecHandler(system)), base


def _compare(found: str, digest: str, place: str) -> None:
    if found != digest:
        raise Refused(
            "file-damaged", f"{place} is not what was written: its SHA-256 is {found}"
        )


def _sync(place: Path) -> None:
    folder = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _stamp(place: Path) -> Hashable:
    found = place.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _info(info: Any) -> Hashable:
    return info.mtime_ns, info.size
