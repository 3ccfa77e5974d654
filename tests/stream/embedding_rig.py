"""A model near at hand, and what it is asked."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from replicator.errors import ReplicatorError
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.ports.transform import Transform
from replicator.settings.embedding import EmbedSettings
from replicator.settings.settings import StreamSettings
from replicator.settings.transform import CollectionSettings, TransformSettings
from replicator.stream.embedding import Embeddings, Models
from replicator.stream.patience import Patience
from replicator.stream.transform import FieldTransform

SIZE = 4


def made_of(text: str, size: int = SIZE) -> bytes:
    """The vector of a text, by this model."""
    digest = hashlib.blake2b(text.encode(), digest_size=size).digest()
    return (np.frombuffer(digest, np.uint8) / np.float32(256)).astype("<f4").tobytes()


class Model:
    """An Embedder that hashes."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.errors: list[ReplicatorError] = []
        """Raised one after another, instead of an answer."""
        self.refuses: dict[str, ReplicatorError] = {}
        """Texts that it does not take, whatever company they come in."""
        self.size = SIZE
        self.takes_s = 0.0
        self.at_once = self.most_at_once = 0

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        self.asked.append(list(texts))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.at_once -= 1
        if self.errors:
            raise self.errors.pop(0)
        for text in texts:
            if text in self.refuses:
                raise self.refuses[text]
        return [made_of(text, self.size) for text in texts]


class Kept:
    """A VectorCache in memory."""

    def __init__(self) -> None:
        self.vectors: dict[bytes, bytes] = {}
        self.errors: list[ReplicatorError] = []

    async def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        return {key: self.vectors[key] for key in keys if key in self.vectors}

    async def put(self, vectors: Mapping[bytes, bytes]) -> None:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        self.vectors |= vectors


def collection(**given: Any) -> CollectionSettings:
    """Books whose vector `text` is made anew of title and text."""
    embed = EmbedSettings(function="models:embed", fields=["title", "text"], size=SIZE)
    embed = msgspec.structs.replace(embed, **given)
    steps = TransformSettings(embed={"text": embed})
    return CollectionSettings(source="books", target="t", transform=steps)


class Desk:
    """A transform with its model, its cache, and its patience."""

    def __init__(self, settings: CollectionSettings | None = None) -> None:
        self.model = Model()
        self.kept = Kept()
        self.patience = Patience(StreamSettings())
        self.settings = settings or collection()
        self.embeddings = Embeddings(
            Models({"models:embed": self.model}, self.kept), self.patience
        )

    @property
    def fields(self) -> FieldTransform:
        target = CollectionSchema(name="t", vectors=None, ids=IdKinds.UINT64 | IdKinds.UUID)
        return FieldTransform(self.settings, target)

    @property
    def transform(self) -> Transform:
        return self.embeddings.joined(self.fields)
