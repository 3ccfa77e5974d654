"""Which file a collection has, and which collection a file."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from replicator.codecs.file_names import name_of, stem_of
from replicator.connectors.jsonl.line import BOM, LINE_BYTES_MAX, Header
from replicator.errors import Refused

SUFFIX = ".jsonl"


def file_name(collection: str) -> str:
    """The name of a collection's file."""
    return f"{stem_of(collection)}{SUFFIX}"


def collection_of(path: Path) -> str:
    """
    The collection whose file this is. Raises Refused ("bad-request") where a name was cut and
    the file's header does not say it.
    """
    told = name_of(path.name.removesuffix(SUFFIX))
    if told is not None:
        return told
    with path.open("rb") as file:
        first = file.readline(LINE_BYTES_MAX).removeprefix(BOM)
    try:
        name = msgspec.json.decode(first, type=Header).collection
    except msgspec.MsgspecError:
        name = ""
    if file_name(name) != path.name:
        raise Refused("bad-request", f"{path} does not say which collection it holds")
    return name


def listed(files: Iterable[Path]) -> list[str]:
    """The collections that these files hold, sorted. One whose name is not as we write it is
    none of them: nobody would find it by the name of a collection.
    """
    names = []
    for path in files:
        if path.name.endswith(SUFFIX):
            with suppress(Refused):
                name = collection_of(path)
                names += [name] if file_name(name) == path.name else []
    return sorted(names)
