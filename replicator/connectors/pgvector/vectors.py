"""
Vectors in pgvector's binary forms, which `vector_send` gives and `COPY` takes.

    vector      int16 dimensions, int16 0, float32 …
    halfvec     int16 dimensions, int16 0, float16 …
    sparsevec   int32 dimensions, int32 count, int32 0, int32 index …, float32 value …

All of it is big-endian, and made of words of one width: so the bytes of a whole column of a
batch are turned at once, heads included, and cut up afterwards. Indices count from 0 here, and
from 1 in the text of a sparsevec.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from replicator.model.point import SparseVector, Vector

_HEAD = struct.Struct(">hh")
_SPARSE_HEAD = struct.Struct(">iii")

HALF_LARGEST = 65_504.0
_HALF_BEYOND = 65_520.0
"""What is as large as this is rounded to infinity, and not to the largest half float."""

NONZERO_MAX = 16_000
"""Of a sparsevec (SPARSEVEC_MAX_NNZ)."""


def read_vectors(kind: str, told: Sequence[bytes | None]) -> list[Vector | None]:
    """The vectors of a column, from a batch of rows."""
    there = [each for each in told if each is not None]
    if kind == "halfvec":
        turned = np.frombuffer(b"".join(there), ">f2").astype("<f4").tobytes()
        found = _cut(turned, [2 * len(each) for each in there], head=8)
    else:
        turned = np.frombuffer(b"".join(there), ">u4").astype("<u4").tobytes()
        head = 4 if kind == "vector" else 12
        found = _cut(turned, [len(each) for each in there], head=head)
    read: Iterator[Vector] = iter(found)
    if kind == "sparsevec":
        read = map(_sparse, found)
    return [None if each is None else next(read) for each in told]


def write_vectors(
    kind: str, vectors: Sequence[Vector | None], dimensions: int | None
) -> list[bytes | None]:
    """
    What COPY takes for the vectors of a column. `dimensions` of sparse ones. They were looked
    at before (`misfit`).
    """
    if kind == "sparsevec":
        assert dimensions is not None
        return [None if each is None else _sparse_sent(each, dimensions) for each in vectors]
    there = [each for each in vectors if isinstance(each, bytes)]
    floats = np.frombuffer(b"".join(there), "<f4")
    width = 2 if kind == "halfvec" else 4
    turned = floats.astype(">f2" if kind == "halfvec" else ">f4").tobytes()
    cut = _cut(turned, [len(each) // 4 * width for each in there], head=0)
    sent = iter([_HEAD.pack(len(each) // width, 0) + each for each in cut])
    return [None if each is None else next(sent) for each in vectors]


def misfit(kind: str, vector: Vector, dimensions: int | None) -> str | None:
    """Why a column of this type does not hold a finite vector of the right kind and size."""
    if isinstance(vector, SparseVector):
        values = np.frombuffer(vector.values, "<f4")
        if len(values) > NONZERO_MAX:
            return f"has {len(values)} values, and a sparsevec holds {NONZERO_MAX}"
        if not values.all():
            return "holds a zero, which a sparsevec does not keep"
        last = int.from_bytes(vector.indices[-4:], "little")
        if dimensions is not None and len(values) and last >= dimensions:
            return f"has the index {last}, and those of the column are below {dimensions}"
    elif kind == "halfvec" and isinstance(vector, bytes):
        largest = np.abs(np.frombuffer(vector, "<f4")).max(initial=0)
        if largest >= _HALF_BEYOND:
            return f"holds a number beyond {HALF_LARGEST:g}, the largest of a halfvec"
    return None


def text_of(vector: Vector, dimensions: int | None) -> str:
    """A vector as SQL takes it."""
    if isinstance(vector, SparseVector):
        indices = np.frombuffer(vector.indices, "<u4").tolist()
        values = np.frombuffer(vector.values, "<f4").tolist()
        pairs = ",".join(f"{i + 1}:{v}" for i, v in zip(indices, values, strict=True))
        return f"{{{pairs}}}/{dimensions}"
    assert isinstance(vector, bytes), "there are no other kinds here"
    return str(np.frombuffer(vector, "<f4").tolist())


def _cut(data: bytes, sizes: Sequence[int], *, head: int) -> list[bytes]:
    ends = list(accumulate(sizes))
    return [data[end - size + head : end] for end, size in zip(ends, sizes, strict=True)]


def _sparse(turned: bytes) -> SparseVector:
    half = len(turned) // 2
    return SparseVector(turned[:half], turned[half:])


def _sparse_sent(vector: Vector, dimensions: int) -> bytes:
    assert isinstance(vector, SparseVector), "looked at before"
    words = np.frombuffer(vector.indices + vector.values, "<u4").astype(">u4").tobytes()
    return _SPARSE_HEAD.pack(dimensions, len(vector.indices) // 4, 0) + words
