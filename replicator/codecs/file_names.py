"""
Which file or folder a collection has: its name percent-encoded.

The name of a file ends at 255 bytes, and a name of another script takes nine for each character
once it is encoded. What is too long is cut, and `=` and a digest of the whole name are put
behind: no encoded name holds a `=`, so no two collections share a file, and the file says the
whole name within.
"""

from __future__ import annotations

import re
from hashlib import sha256
from urllib.parse import quote, unquote

_STEM_MAX = 240
"""Bytes, so that there is room for a suffix, and a second one while a file is made."""
_DIGITS = 32
_EMPTY = "="
"""Of the collection without a name: a file that is all suffix would be a hidden one."""
_BROKEN = re.compile(r"%[0-9A-F]?$")


def stem_of(collection: str) -> str:
    """What the name of a collection's file or folder begins with."""
    stem = quote(collection, safe="") or _EMPTY
    if len(stem) > _STEM_MAX:
        head = _BROKEN.sub("", stem[: _STEM_MAX - _DIGITS - 1])
        stem = f"{head}={sha256(collection.encode()).hexdigest()[:_DIGITS]}"
    return stem


def name_of(stem: str) -> str | None:
    """The collection whose stem this is; None where it was cut, so that only the file says."""
    if stem == _EMPTY:
        return ""
    return None if "=" in stem else unquote(stem)


def why_no_file(collection: str) -> str | None:
    """Why no file can have a collection's name, whatever becomes of it on the way."""
    if collection in (".", "..") or any(char in collection for char in "/\\\0"):
        return "cannot be the name of a file"
    return None
