"""The plan: what there is, what will be written where, and about how long it takes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from replicator.errors import Rejected
from replicator.migration.preflight.routes import scopes_of, some_rows, wanted_target
from replicator.migration.preflight.shared import Targets
from replicator.model.configuration import settings_of
from replicator.model.finding import Severity
from replicator.model.point import Payload
from replicator.model.schema import CollectionSchema, VectorKind
from replicator.model.scopes import Scopes
from replicator.settings.embedding import EmbedSettings
from replicator.settings.settings import Settings
from replicator.settings.transform import CollectionSettings
from replicator.stream.compatibility import losses
from replicator.stream.embedding import text_of
from replicator.stream.reading import Reader
from replicator.stream.transform import FieldTransform

_ROWS_PER_S = 3000.0
"""Rows a second of a copy on ordinary machines; the status shows the real rate."""
T = TypeVar("T", int, float)

_SAMPLE_ROWS = 200
"""Rows whose texts tell how long all are: a page or two."""
_PAYLOAD_BYTES = 1024
"""Assumed size of a payload where the store does not tell."""


class EmbeddingPlan(msgspec.Struct, kw_only=True):
    """What making one vector anew takes, estimated from a sample of rows."""

    function: str
    texts: int | None
    characters: int | None
    cost: float | None
    """In the currency of the setting of that name; None where it says nothing."""
    seconds: float | None
    """At the pace of `rate_max`; None without one."""


class CollectionPlan(msgspec.Struct, kw_only=True):
    """One collection's part."""

    source: str
    target: str
    points: int | None
    vectors: dict[str, str]
    """Source vector → what becomes of it, as in `title: dense 384 cosine → headline`."""
    creates_target: bool
    indexes: dict[str, str]
    ids: str
    scopes: str | None = None
    """Which of the source's scopes travel, and whereto; None where it has none."""
    steps: list[str]
    """The transform in sentences."""
    configuration: dict[str, Any] = {}
    """Every setting that the target will have beyond vectors and index types, or has."""
    losses: list[str] = []
    """What of the source's configuration the target will not have."""
    blocked: bool = False
    """One of them is not accepted."""
    lossy: list[str]
    embeddings: dict[str, EmbeddingPlan] = {}
    """Vectors that are made anew, by their name at the target."""
    bytes: int | None
    seconds: float | None


class Plan(msgspec.Struct, kw_only=True):
    """The whole migration, estimated."""

    name: str
    feed: str
    collections: list[CollectionPlan]
    points: int | None
    bytes: int | None
    """At the target, vectors and payload, without its indexes."""
    seconds: float | None
    complexity: str
    """`simple`: a copy; `mapped`: names or types change; `lossy`: something stays behind."""


async def make_plan(settings: Settings, *, source: Reader, target: Reader) -> Plan:
    """
    Describe both stores. Raises Refused("source-missing", "target-shared"), Retryable when one
    is away.
    """
    collections = []
    targets = Targets()
    looked = []
    for collection in settings.collections:
        schema = await source.schema(collection.source)
        at_target = await target.describe(collection.target)
        planned = await wanted_target(collection, schema, target.store, capture_id=None)
        targets.add(collection, schema, planned, at_target)
        looked.append((collection, schema, at_target))
    for collection, schema, at_target in looked:
        planned = targets.plans[collection.target]
        wanted = at_target or planned
        scopes = scopes_of(settings, collection, schema)
        transform = FieldTransform(collection, wanted, schema)
        findings = losses(collection, schema, planned, at_target)
        points = await source.count(collection.source, scopes)
        embeddings = await _embeddings(collection, source, scopes, points)
        size = None if points is None else points * (_vector_bytes(schema) + _PAYLOAD_BYTES)
        steps = collection.transform
        collections.append(
            CollectionPlan(
                source=collection.source,
                target=collection.target,
                points=points,
                vectors=_vectors(schema, transform),
                creates_target=at_target is None,
                indexes=wanted.indexes,
                ids=collection.ids,
                scopes=None if scopes is None else _scopes(scopes, wanted),
                steps=[
                    f"{field}: {msgspec.json.encode(value).decode()}"
                    for field in steps.__struct_fields__
                    if field != "embed" and (value := getattr(steps, field))
                ],
                configuration=_configuration(wanted),
                losses=[f"{finding.code}: {finding.message}" for finding in findings],
                blocked=any(finding.severity is Severity.BLOCKS for finding in findings),
                lossy=transform.lossy,
                embeddings=embeddings,
                bytes=size,
                seconds=None if points is None else points / _ROWS_PER_S,
            )
        )
    return Plan(
        name=settings.name,
        feed=str(settings.feed.__struct_config__.tag),
        collections=collections,
        points=_total([plan.points for plan in collections]),
        bytes=_total([plan.bytes for plan in collections]),
        seconds=_total([plan.seconds for plan in collections]),
        complexity=_complexity(collections),
    )


async def _embeddings(
    collection: CollectionSettings, source: Reader, scopes: Scopes | None, points: int | None
) -> dict[str, EmbeddingPlan]:
    embed = collection.transform.embed
    if not embed:
        return {}
    rows = await some_rows(source, collection.source, _SAMPLE_ROWS, scopes)
    return {
        name: _embedding(each, [_text(name, each, row.payload) for row in rows], points)
        for name, each in embed.items()
    }


def _text(name: str, settings: EmbedSettings, payload: Payload) -> str | None:
    with contextlib.suppress(Rejected):
        return text_of(name, settings, payload)
    return None


def _embedding(
    settings: EmbedSettings, sample: Sequence[str | None], points: int | None
) -> EmbeddingPlan:
    texts = [text for text in sample if text is not None]
    wanted = characters = cost = seconds = None
    if points is not None and sample:
        wanted = round(points * len(texts) / len(sample))
        characters = round(points * sum(map(len, texts)) / len(sample))
        cost = characters * settings.cost / 1e6 if settings.cost else None
        seconds = wanted / settings.rate_max if settings.rate_max else None
    return EmbeddingPlan(
        function=settings.function,
        texts=wanted,
        characters=characters,
        cost=cost,
        seconds=seconds,
    )


def _scopes(scopes: Scopes, target: CollectionSchema) -> str:
    names = "all" if scopes.names is None else ", ".join(sorted(scopes.names))
    return f"{names} → {'scopes of the same names' if target.scoped else 'all points together'}"


def _vectors(schema: CollectionSchema, transform: FieldTransform) -> dict[str, str]:
    described = {}
    for name, vector in (schema.vectors or {}).items():
        size = "" if vector.size is None else f" {vector.size}"
        distance = "" if vector.distance is None else f" {vector.distance.value}"
        to = transform.target_vector(name)
        place = "does not travel" if to is None else f"→ {to or '(unnamed)'}"
        described[name] = f"{vector.kind.value}{size}{distance} {place}"
    return described


def _configuration(schema: CollectionSchema) -> dict[str, Any]:
    neutral = ("distance", "type")
    return {
        ".".join(word or "(unnamed)" for word in path): value
        for path, value in settings_of(schema).items()
        if path[0] not in ("vectors", "indexes") or path[2] not in neutral
    }


def _vector_bytes(schema: CollectionSchema) -> int:
    sizes = [
        4 * vector.size
        for vector in (schema.vectors or {}).values()
        if vector.kind is VectorKind.DENSE and vector.size is not None
    ]
    return sum(sizes)


def _complexity(collections: list[CollectionPlan]) -> str:
    if any(plan.lossy for plan in collections):
        return "lossy"
    return "mapped" if any(plan.steps or plan.embeddings for plan in collections) else "simple"


def _total(values: list[T | None]) -> T | None:
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known and len(known) == len(values) else None
