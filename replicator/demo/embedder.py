"""
A small embedder that needs no model: feature hashing of words and pairs of words.

Each feature is hashed to one component and a sign (crc32, the same on every machine and in
every process), so that collisions cancel out on average and texts that share words lie close
together.
"""

from __future__ import annotations

import re
from itertools import pairwise
from zlib import crc32

import numpy as np
import numpy.typing as npt

DIMENSION = 256
"""Half of it makes unrelated documents collide; twice it only makes the demonstration slower.
"""

_WORD = re.compile(r"[a-z]{2,}")
_SIGN_BIT = 1 << 31


def embed(text: str) -> npt.NDArray[np.float32]:
    """The text as `DIMENSION` little-endian float32 of length one; never all zero."""
    words = _WORD.findall(text.lower())
    features = words + [f"{first} {second}" for first, second in pairwise(words)]
    hashes = [crc32(feature.encode()) for feature in features or ["nothing"]]

    vector = np.zeros(DIMENSION, dtype="<f4")
    signs = [1.0 if value & _SIGN_BIT else -1.0 for value in hashes]
    np.add.at(vector, [value % DIMENSION for value in hashes], signs)

    length = float(np.linalg.norm(vector))
    if length == 0.0:  # every feature met its opposite
        vector[0] = length = 1.0
    vector /= length
    return vector
