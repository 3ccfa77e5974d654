"""What makes vectors of texts, and where they are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol


class Embedder(Protocol):
    """A model, near or far. Called from one event loop, several calls at once."""

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """
        One vector a text, in their order: little-endian float32. The call may be repeated, and
        be cancelled.

        Raises Rejected("text-refused") when one of the texts is at fault: who asked asks again
        for fewer. Unavailable("embedder-away") for what passes by itself,
        Refused("embedder-broken") for what a person must mend.
        """
        ...


class VectorCache(Protocol):
    """
    Vectors by what they were made of, so that nothing is paid for twice and a second answer is
    the first one. What is lost of it is made again.
    """

    async def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Those of the keys that are kept. Raises Unavailable("embedding-cache")."""
        ...

    async def put(self, vectors: Mapping[bytes, bytes]) -> None:
        """Keep these. Raises Unavailable("embedding-cache")."""
        ...
