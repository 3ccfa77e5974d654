"""
One collection: the folder of a shard. Plain blocking code for one thread.

The engine lets one handle at a time have a shard, so it is opened with the first call and held.
Whoever takes the folder away meanwhile, or puts another one there, is noticed by the folder's
number: the handle would go on with files that nobody can reach.

A shard is made beside its place, with its indexes, and renamed there: a crash leaves the whole
of it or nothing. The mark lies in a file of ours within the folder, and goes where the folder
goes; the engine leaves it alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import qdrant_edge as edge

from replicator.connectors.qdrant_embedded.configuration import Document
from replicator.connectors.qdrant_embedded.folder import SEGMENTS
from replicator.errors import OutcomeUnknown, Refused, ReplicatorError, Unavailable

T = TypeVar("T")

_CONFIGURATION = "edge_config.json"
_NOTES = "replicator.json"


class Notes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What we keep beside a shard: the mark, and whether we made it."""

    capture_id: str | None = None
    epoch: int = 0
    incarnation: int = 0
    made: bool = False


class EmbeddedShard:
    """The shard of one collection, which need not exist."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.folder = root / name
        self._handle: edge.EdgeShard | None = None
        self._held: tuple[int, int] | None = None

    @property
    def is_there(self) -> bool:
        """Whether the folder is a shard; a handle on one that went away is let go of."""
        there = (self.folder / SEGMENTS).is_dir()
        if self._handle is not None and (not there or self._number() != self._held):
            self.close()
        return there

    def opened(self, missing: str) -> edge.EdgeShard:
        """
        The engine's handle. Raises Refused with the code `missing` where there is no such
        shard, ("permission-denied") where its folder may not be written, which reading needs
        as well, and ("file-damaged") for one that cannot be loaded; Unavailable for one that
        somebody else has open.
        """
        if not self.is_there:
            raise Refused(missing, f"there is no shard of Qdrant in {self.folder}")
        if self._handle is None:
            if not os.access(self.folder, os.W_OK):
                raise Refused(
                    "permission-denied",
                    f"{self.folder} may not be written, and the engine writes its log there"
                    " when it opens a shard, if only to read",
                )
            self._handle, self._held = _load(self.folder), self._number()
        return self._handle

    def read(self, work: Callable[[edge.EdgeShard], T]) -> T:
        """What the engine answers. Raises as `opened`, and Refused("file-damaged")."""
        handle = self.opened("source-missing")
        with _translated(lambda why: Refused("file-damaged", f"{self.folder}: {why}")):
            return work(handle)

    def write(self, operations: Sequence[edge.UpdateOperation]) -> None:
        """
        Carry them out and force them to the disk. Raises as `opened`, and OutcomeUnknown for
        whatever the engine says.
        """
        handle = self.opened("target-missing")
        with _translated(
            lambda why: OutcomeUnknown("outcome-unknown", f"{self.folder}: {why}")
        ):
            for operation in operations:
                handle.update(operation)
            handle.flush()

    def optimize(self) -> None:
        """Build the indexes of vectors. Raises as `write`."""
        handle = self.opened("target-missing")
        with _translated(
            lambda why: OutcomeUnknown("outcome-unknown", f"{self.folder}: {why}")
        ):
            handle.optimize()
            handle.flush()

    def configuration(self) -> Document:
        """
        The engine's document of the shard. Raises as `opened`: what it does not say yet, of a
        shard from elsewhere, the engine writes when it loads it.
        """
        self.opened("source-missing")
        return _decoded(self.folder / _CONFIGURATION, dict[str, Any])

    def notes(self) -> Notes:
        """What we keep beside it."""
        place = self.folder / _NOTES
        return _decoded(place, Notes) if place.exists() else Notes()

    def keep(self, notes: Notes) -> None:
        """Replace what we keep beside it; after a crash it is the old or the new."""
        _put(self.folder / _NOTES, msgspec.json.encode(notes))

    def make(
        self, document: Document, indexes: Sequence[edge.UpdateOperation], notes: Notes
    ) -> None:
        """
        Make the shard, in the place of the one that is there. Raises Refused
        ("target-incompatible") for a document that the engine does not take.
        """
        new, old = (self.folder.with_name(f".{self.name}.{what}") for what in ("new", "old"))
        for leftover in (new, old):
            if leftover.exists():
                shutil.rmtree(leftover)
        new.mkdir(parents=True)
        _put(new / _CONFIGURATION, msgspec.json.encode(document))
        with _translated(
            lambda why: Refused("target-incompatible", f"{self.name} cannot be made: {why}")
        ):
            made = edge.EdgeShard.load(str(new))
            for operation in indexes:
                made.update(operation)
            made.flush()
            made.close()
        _put(new / _NOTES, msgspec.json.encode(notes))
        self.close()
        if self.folder.exists():
            # A crash from here on leaves no collection, and `ensure` makes one.
            self.folder.rename(old)
        new.rename(self.folder)
        _force(self.folder.parent)
        with suppress(FileNotFoundError):
            shutil.rmtree(old)

    def close(self) -> None:
        """Let go of the shard. Idempotent."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with _translated(lambda why: Unavailable("store-unavailable", why)):
                handle.close()

    def _number(self) -> tuple[int, int]:
        told = self.folder.stat()
        return told.st_dev, told.st_ino


def _load(folder: Path) -> edge.EdgeShard:
    def error(why: str) -> ReplicatorError:
        if "WouldBlock" in why:
            return Unavailable(
                "store-unavailable", f"{folder} is open in another process: close it there"
            )
        return Refused("file-damaged", f"the engine cannot load {folder}: {why}")

    with _translated(error):
        return edge.EdgeShard.load(str(folder))


@contextmanager
def _translated(error: Callable[[str], ReplicatorError]) -> Iterator[None]:
    """What the engine raises, which has no types for it."""
    try:
        yield
    except BaseException as exc:
        # A panic of the engine is no Exception, and nothing else of that sort gets into the
        # thread of a store.
        raise error(f"{exc}") from exc


def _decoded(place: Path, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(place.read_bytes(), type=type_)
    except msgspec.MsgspecError as exc:
        raise Refused("file-damaged", f"{place} cannot be read: {exc}") from exc


def _put(place: Path, data: bytes) -> None:
    beside = place.with_name(f"{place.name}.new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(place)
    _force(place.parent)


def _force(folder: Path) -> None:
    """Force what was renamed in a folder to the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
