"""
The operation log: every change that the application was told is done, in the order in which it
was told. It is the demonstration's oracle: what both stores must hold is computed from this
file alone, by code that shares nothing with the replicator.

One JSON object a line, vectors as base64 of float32. A key has one writer, which waits for each
operation before the next, so the lines of a key are in the order of its changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec


class Image(msgspec.Struct):
    """One document: its vector as little-endian float32, its payload in source terms."""

    vector: bytes
    payload: dict[str, Any]


class Operation(msgspec.Struct, kw_only=True, omit_defaults=True):
    """
    One change. `upsert` gives vector and payload, `patch` what it sets and unsets and maybe a
    vector, `delete` nothing. `store` and `epoch` say where it was written.
    """

    op: Literal["upsert", "patch", "delete"]
    id: int
    at_ms: int
    store: str
    epoch: int = 0
    version: int = 0
    vector: bytes | None = None
    payload: dict[str, Any] | None = None
    set: dict[str, Any] = {}
    unset: list[str] = []


class OperationLog:
    """Append operations to a file. What was appended is in the file after `flush`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self._encoder = msgspec.json.Encoder()
        self.length = 0

    def append(self, operation: Operation) -> None:
        """Append one operation, after both the store and the feed have confirmed it."""
        self._file.write(self._encoder.encode(operation) + b"\n")
        self.length += 1

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


def read_operations(path: Path) -> Iterable[Operation]:
    """The operations of a log, in order."""
    decoder = msgspec.json.Decoder(Operation)
    with path.open("rb") as lines:
        for line in lines:
            yield decoder.decode(line)


def replay(operations: Iterable[Operation]) -> dict[int, Image]:
    """What the documents are after these operations."""
    images: dict[int, Image] = {}
    for operation in operations:
        after = following(images.get(operation.id), operation)
        if after is None:
            images.pop(operation.id, None)
        else:
            images[operation.id] = after
    return images


def following(image: Image | None, operation: Operation) -> Image | None:
    """A document after one operation; None when there is none. A patch of none makes none."""
    match operation.op:
        case "upsert":
            assert operation.vector is not None
            assert operation.payload is not None
            return Image(operation.vector, operation.payload)
        case "patch" if image is not None:
            payload = {
                name: value
                for name, value in {**image.payload, **operation.set}.items()
                if name not in operation.unset
            }
            return Image(operation.vector or image.vector, payload)
        case _:
            return None
