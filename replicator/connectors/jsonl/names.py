"""
Which file a collection has: its name percent-encoded, and `.jsonl`.

A file name ends at 255 bytes, and a name of another script takes nine for each character once
it is encoded. What is too long is cut, and `=` and a digest of the whole name are put behind:
no encoded name holds a `=`, so no two collections share a file, and the header in the file says
the whole name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from replicator.connectors.jsonl.line import BOM, LINE_BYTES_MAX, Header
from replicator.errors import Refused

SUFFIX = ".jsonl"
_STEM_MAX = 240
"""Bytes before the suffix; a file under way has `.new` behind it as well."""
_DIGITS = 32
_EMPTY = "="
"""Of the collection without a name: a file that is all suffix would be a hidden one."""
_BROKEN = re.compile(r"%[0-9A-F]?$")


def file_name(collection: str) -> str:
    """The name of a collection's file."""
    stem = quote(collection, safe="") or _EMPTY
    if len(stem) > _STEM_MAX:
        head = _BROKEN.sub("", stem[: _STEM_MAX - _DIGITS - 1])
        stem = f"{head}={sha256(collection.encode()).hexdigest()[:_DIGITS]}"
    return f"{stem}{SUFFIX}"


def collection_of(path: Path) -> str:
    """
    The collection whose file this is. Raises Refused ("bad-request") where a name was cut and
    the file's header does not say it.
    """
    stem = path.name.removesuffix(SUFFIX)
    if stem == _EMPTY:
        return ""
    if "=" not in stem:
        return unquote(stem)
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
