"""
What exists, on disk: collections with their configuration, and aliases.

One JSON file, replaced as a whole: written beside, forced to disk, renamed, and the rename
forced to disk as well. So after `kill -9` it is the old state or the new one.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from replicator.errors import Fatal


class StoredCollection(msgspec.Struct):
    """
    `directory` of the shard, beside the file, or `keys`, shard key → directory; `create` is a
    serialised CreateCollection, `late` a CollectionParamsDiff with what only an update can say,
    `indexes` payload field → PayloadSchemaInfo.
    """

    directory: str
    create: bytes
    late: bytes = b""
    indexes: dict[str, bytes] = {}
    keys: dict[str, str] = {}

    @property
    def directories(self) -> dict[str, str]:
        """The directory of each shard, by its key; "" is that of automatic sharding."""
        return {"": self.directory} if self.directory else self.keys


class Contents(msgspec.Struct):
    """All that the file holds."""

    collections: dict[str, StoredCollection] = {}
    aliases: dict[str, str] = {}


class Registry:
    """The file and its contents. Changed only by the server's loop, one change at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.contents = Contents()
        if path.exists():
            try:
                self.contents = msgspec.json.decode(path.read_bytes(), type=Contents)
            except msgspec.MsgspecError as exc:
                raise Fatal("store-bug", f"{path} is not a registry: {exc}") from exc

    def save(self, contents: Contents) -> None:
        """Replace the contents, on disk first."""
        beside = self._path.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(contents), indent=1))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.contents = contents
