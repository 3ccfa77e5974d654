"""
What stands beside the parts of a collection that we wrote: `_manifest.json`.

It is the truth about the folder. A part that it does not list is none, so that whatever changes
(a write, a deletion, a gathering of small parts) comes into force when the manifest is
replaced, all of it or nothing; and with count and digest of each part a folder can be checked
by whoever finds it, without the store that it came from.
"""

from __future__ import annotations

import re

import msgspec

from replicator.codecs.layout import Layout
from replicator.errors import Refused

NAME = "_manifest.json"
"""Readers of folders of Parquet files pass over what begins with `_`."""
FORMAT = 1
_OURS = re.compile(r"part-[0-9]{8,}\.parquet")


class PartEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part."""

    name: str
    rows: int
    """In the file."""
    bytes: int
    sha256: str
    deleted: tuple[int, ...] = ()
    """Numbers of rows that count no more, ascending: until the part is written anew, which the
    end of a copy does."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One collection."""

    replicator: int = FORMAT
    collection: str
    capture_id: str | None = None
    mark_epoch: int = 0
    mark_incarnation: int = 0
    schema: Layout = Layout()
    finished: bool = False
    """The copy is at its end, and each point stands once in the parts: `deleted` is empty."""
    following: int = 0
    """The number of the next part. None is used twice, so that what a crash left behind is told
    from what counts."""
    parts: tuple[PartEntry, ...] = ()


def part_name(number: int) -> str:
    """Names in the order of numbers, up to a hundred million parts."""
    return f"part-{number:08}.parquet"


def is_ours(name: str) -> bool:
    """Whether a file has a name that we give to parts."""
    return _OURS.fullmatch(name) is not None


def encode(manifest: Manifest) -> bytes:
    """As it is written."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode(data: bytes, place: str) -> Manifest:
    """Raises Refused("unsupported") for a newer format, Refused("file-damaged")."""
    try:
        version = msgspec.json.decode(data, type=_Version).replicator
        if version > FORMAT:
            raise Refused(
                "unsupported",
                f"{place} has format {version}; this release reads up to {FORMAT}",
            )
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as exc:
        raise Refused("file-damaged", f"{place}: {exc}") from exc


class _Version(msgspec.Struct):
    replicator: int
