"""
The transform that makes vectors anew: the steps by fields, and a model that is asked besides.

A point's text is taken from the source's payload, by fields that the settings name. The same
text is asked for once: answers are kept under a hash of the text and of the model's name, which
makes a second answer (a replay, a restart, the comparison of both stores) the first one.

A model that is away is waited for, and the wait is seen. A text that it refuses is found by
asking for half as many, and is a dead letter; it hides no other. A vector of another length
than the settings say is never written: a person mends the function or the settings meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from replicator.codecs.numeric import is_finite
from replicator.errors import Refused, Rejected
from replicator.metrics import Metrics
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import Payload, Point, PointId
from replicator.model.write import Upsert, Write
from replicator.ports.embedding import Embedder, VectorCache
from replicator.ports.transform import Item, Row, Transform
from replicator.settings.embedding import EmbedSettings, ModelSettings
from replicator.settings.transform import CollectionSettings
from replicator.stream.filter import Filter
from replicator.stream.patience import Patience
from replicator.stream.transform import FieldTransform


class Embedding:
    """One vector of a collection, made of texts."""

    def __init__(
        self,
        name: str,
        settings: EmbedSettings,
        *,
        model: ModelSettings | None,
        embedder: Embedder,
        cache: VectorCache,
        patience: Patience,
        metrics: Metrics | None = None,
    ) -> None:
        """`name`: the vector's at the target. `model`: what the contract says makes it."""
        self._name = name
        self._settings = settings
        self._embedder = embedder
        self._cache = cache
        self._patience = patience
        self._metrics = metrics
        self._turns = asyncio.Semaphore(settings.parallel)
        self._due = 0.0
        """When the next text may be asked for, by the loop's time."""
        made_by = [settings.function, settings.size, model]
        self._salt = msgspec.json.encode(made_by) + b"\0"

    async def of(self, texts: Sequence[str]) -> list[bytes | Rejected]:
        """The vector of each text, or why it has none."""
        keys = [self._key(text) for text in texts]
        answers: dict[bytes, bytes | Rejected] = {}
        if keys:
            answers |= await self._patience.until_answered(lambda: self._cache.get(set(keys)))
        asked = {key: text for key, text in zip(keys, texts, strict=True) if key not in answers}
        if self._metrics is not None:
            self._metrics.embedded("cache", len(texts) - len(asked))
        batch = self._settings.batch
        places = list(asked)
        for begin in range(0, len(places), batch):
            some = places[begin : begin + batch]
            made = dict(zip(some, await self._asked([asked[key] for key in some]), strict=True))
            answers |= made
            await self._keep(
                {key: made[key] for key in some if not isinstance(made[key], Rejected)}
            )
        return [answers[key] for key in keys]

    def _key(self, text: str) -> bytes:
        return hashlib.blake2b(self._salt + text.encode(), digest_size=32).digest()

    async def _keep(self, made: Mapping[bytes, bytes | Rejected]) -> None:
        vectors = {key: vector for key, vector in made.items() if isinstance(vector, bytes)}
        if vectors:
            await self._patience.until_answered(lambda: self._cache.put(vectors))

    async def _asked(self, texts: Sequence[str]) -> Sequence[bytes | Rejected]:
        """What the model says to them, asked again for fewer where it refuses one of them."""
        try:
            async with self._turns:
                await self._at_pace(len(texts))
                vectors = await self._patience.until_answered(lambda: self._once(texts))
        except Rejected as error:
            if len(texts) == 1:
                return [error]
            half = len(texts) // 2
            return [*await self._asked(texts[:half]), *await self._asked(texts[half:])]
        if self._metrics is not None:
            self._metrics.embedded("model", len(texts))
        return vectors

    async def _once(self, texts: Sequence[str]) -> list[bytes]:
        vectors = await self._embedder.embed(texts)
        wrong = flaw(vectors, len(texts), self._settings.size)
        if wrong is not None:
            raise Refused("embedder-broken", f"{self._settings.function} {wrong}")
        if not all(map(is_finite, vectors)):
            path = f'vectors."{self._name}"'
            raise Rejected("vector-not-finite", "the model answers NaN or Infinity", path)
        return vectors

    async def _at_pace(self, texts: int) -> None:
        if not self._settings.rate_max:
            return
        now = asyncio.get_running_loop().time()
        begin = max(now, self._due)
        self._due = begin + texts / self._settings.rate_max
        if begin > now:
            message = f"{self._settings.rate_max:g} texts a second are allowed"
            with self._patience.waits.waiting(
                "embedding-rate", message, seconds=begin - now, planned=True
            ):
                await asyncio.sleep(begin - now)


def flaw(vectors: Sequence[bytes], texts: int, size: int) -> str | None:
    """What is wrong with an answer, as the rest of a sentence; None if it is as agreed."""
    if len(vectors) != texts:
        return f"answers {len(vectors)} vectors to {texts} texts"
    odd = next((vector for vector in vectors if len(vector) != 4 * size), None)
    if odd is not None:
        return f"answers vectors of {len(odd) // 4} dimensions, and `size` is {size}"
    return None


def text_of(name: str, settings: EmbedSettings, payload: Payload) -> str | None:
    """
    The text that the vector `name` is made of; None where the point travels without it. Raises
    Rejected("transform-failed", "text-missing") with the field's path.
    """
    parts = []
    for field in settings.fields:
        value = payload.get(field)
        if value is None:
            continue
        if not isinstance(value, str):
            raise Rejected(
                "transform-failed",
                f"the vector {name!r} is made of it, and it is no text",
                f"payload.{field}",
            )
        if value.strip():
            parts.append(value)
    if not parts and settings.missing == "reject":
        raise Rejected(
            "text-missing",
            f"there is no text to make the vector {name!r} of",
            f"payload.{settings.fields[0]}",
        )
    return "\n".join(parts) or None


class EmbeddingTransform:
    """The port Transform: `fields`, and vectors that are made anew."""

    pure = False

    def __init__(self, fields: FieldTransform, embeddings: Mapping[str, Embedding]) -> None:
        """`embeddings`: by the vector's name at the target, each that the settings ask for."""
        self._fields = fields
        self._embeddings = embeddings
        self._settings = fields.settings.transform.embed
        assert embeddings.keys() == self._settings.keys(), "each vector has its model"
        self._texts = frozenset(
            field for embed in self._settings.values() for field in embed.fields
        )

    @property
    def filter(self) -> Filter | None:
        """Which points pass; None where all do."""
        return self._fields.filter

    @property
    def lossy(self) -> list[str]:
        """Why the way back loses, one sentence for each reason."""
        return self._fields.lossy

    def target_id(self, key: Key) -> PointId:
        """The id at the target. Raises Rejected("id-invalid")."""
        return self._fields.target_id(key)

    def candidates(self, target_id: PointId, payload: Payload) -> list[PointId]:
        """As `IdMap.candidates`."""
        return self._fields.candidates(target_id, payload)

    def stray(self, target_id: PointId) -> PointId:
        """As `IdMap.stray`."""
        return self._fields.stray(target_id)

    def target_vector(self, name: str) -> str | None:
        """What the source's vector is called at the target; None if it does not travel."""
        return self._fields.target_vector(name)

    def needs_image(self, event: ChangeEvent) -> bool:
        """Also of a patch of a text: the others that a vector is made of are at the source."""
        if self._fields.needs_image(event):
            return True
        texts = self._texts
        return event.op is Op.PATCH and not (
            texts.isdisjoint(event.set) and texts.isdisjoint(event.unset)
        )

    async def vector_of(self, name: str, text: str) -> bytes:
        """The vector that a text has. Raises Rejected for a text that the model refuses."""
        [vector] = await self._embeddings[name].of([text])
        if isinstance(vector, Rejected):
            raise vector
        return vector

    async def writes(self, items: Sequence[Item]) -> list[Write | Rejected]:
        """As in Transform. Waits for a model that is away."""
        writes = await self._fields.writes(items)
        for name, embedding in self._embeddings.items():
            texts: dict[int, str] = {}
            for place, (item, write) in enumerate(zip(items, writes, strict=True)):
                if not isinstance(write, Upsert):
                    continue
                try:
                    text = text_of(name, self._settings[name], _payload(item))
                except Rejected as error:
                    writes[place] = error
                else:
                    if text is not None:
                        texts[place] = text
            vectors = await embedding.of(list(texts.values()))
            for place, vector in zip(texts, vectors, strict=True):
                write = writes[place]
                assert isinstance(write, Upsert), "only points are embedded"
                point = write.point
                writes[place] = (
                    vector
                    if isinstance(vector, Rejected)
                    else Upsert(Point(point.id, {**point.vectors, name: vector}, point.payload))
                )
        return writes


class Models(msgspec.Struct, frozen=True):
    """What a migration's vectors are made by."""

    embedders: Mapping[str, Embedder]
    """By the function that the settings name."""
    cache: VectorCache


class Embeddings:
    """The models at work: each vector of each collection has one place where it is made."""

    def __init__(
        self, models: Models | None, patience: Patience, metrics: Metrics | None = None
    ) -> None:
        self._models = models
        self._patience = patience
        self._metrics = metrics
        self._known: dict[tuple[str, str], Embedding] = {}

    def joined(self, fields: FieldTransform) -> Transform:
        """The transform with the vectors that its settings have made anew, if there are any."""
        settings = fields.settings
        if not settings.transform.embed:
            return fields
        made = {
            name: self._of(settings, name, embed)
            for name, embed in settings.transform.embed.items()
        }
        return EmbeddingTransform(fields, made)

    def _of(self, settings: CollectionSettings, name: str, embed: EmbedSettings) -> Embedding:
        assert self._models is not None, "settings that embed come with their models"
        place = settings.source, name
        if place not in self._known:
            self._known[place] = Embedding(
                name,
                embed,
                model=settings.embedding.target,
                embedder=self._models.embedders[embed.function],
                cache=self._models.cache,
                patience=self._patience,
                metrics=self._metrics,
            )
        return self._known[place]


def _payload(item: Item) -> Payload:
    """The source's payload of what becomes a point."""
    if isinstance(item, Row):
        assert item.point is not None, "an absent row becomes a Delete"
        return item.point.payload
    return item.payload
