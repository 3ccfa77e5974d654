"""What lies in a folder: shards, or something else; and whether there is room for more."""

from __future__ import annotations

import shutil
from pathlib import Path

from replicator.errors import Unavailable

SEGMENTS = "segments"
"""By it a folder is known as a shard."""

ROOM_BYTES = 256 << 20
"""Free space below which nothing is written. The engine maps its files, in pieces of 32 MiB
for each vector and for its log: where the disk is full it is told nothing, and killed (SIGBUS).
Half of it leaves no piece for each of several vectors; twice it only wastes the space."""


def listed(root: Path) -> list[str]:
    """The collections whose shards lie in a folder, sorted."""
    if not root.is_dir():
        return []
    return sorted(
        each.name
        for each in root.iterdir()
        if not each.name.startswith(".") and (each / SEGMENTS).is_dir()
    )


def need_room(root: Path, size: int) -> None:
    """Raises Unavailable where so many bytes more might fill the disk."""
    there = next(each for each in (root, *root.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free
    if free < ROOM_BYTES + 2 * size:
        raise Unavailable(
            "store-unavailable",
            f"the disk of {there} has {free >> 20} MiB left, and {ROOM_BYTES >> 20} MiB are"
            " kept free: Qdrant's engine does not survive a full disk",
        )


def why_unfit(root: Path) -> str | None:
    """Why no shards can lie in a folder, and what to do."""
    if root.exists() and not root.is_dir():
        return f"{root} is no directory"
    if (root / SEGMENTS).is_dir():
        return (
            f"{root} is a shard itself: give the folder above it, and {root.name} as the"
            " name of the collection"
        )
    if (root / "meta.json").exists() and (root / "collection").is_dir():
        return (
            f"{root} is a folder of qdrant-client's local mode, which only that package"
            " reads: copy it into a Qdrant with the package's own `migrate`"
        )
    if (root / "registry.json").exists():
        return (
            f"{root} belongs to the local store: serve it with `replicator local-store`,"
            " and name its address"
        )
    return None
