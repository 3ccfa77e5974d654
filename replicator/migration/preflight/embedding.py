"""Which models the vectors are of: may they travel, and does what makes others anew work?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from replicator.errors import Refused, Rejected, Retryable
from replicator.model.finding import CheckFinding, Severity
from replicator.model.schema import CollectionSchema, VectorKind, VectorSchema
from replicator.settings.embedding import EmbedSettings, ModelSettings
from replicator.settings.transform import CollectionSettings
from replicator.stream.embedding import Models, flaw
from replicator.stream.transform import FieldTransform

_PROBE = "The quick brown fox jumps over the lazy dog."
_ANSWER_S = 60.0
"""A model may have to be loaded first."""


async def look_at_models(
    collection: CollectionSettings,
    source: CollectionSchema,
    transform: FieldTransform,
    models: Models | None,
) -> list[CheckFinding]:
    """What the contract says against it, and whether each model answers as agreed."""
    subject = f"collections/{collection.source}"
    findings = [
        CheckFinding(Severity.BLOCKS, "embedding-mismatch", subject, sentence)
        for sentence in contradictions(collection, source, transform)
    ]
    for name, embed in collection.transform.embed.items():
        assert models is not None, "settings that embed come with their models"
        wrong = await _probe(embed, models)
        if wrong is not None:
            code, message = wrong
            findings.append(
                CheckFinding(Severity.BLOCKS, code, subject, f"embed {name!r}: {message}")
            )
    return findings


async def _probe(embed: EmbedSettings, models: Models) -> tuple[str, str] | None:
    try:
        async with asyncio.timeout(_ANSWER_S):
            vectors = await models.embedders[embed.function].embed([_PROBE])
    except TimeoutError:
        return "embedder-away", f"{embed.function} did not answer within {_ANSWER_S:.0f} s"
    except (Retryable, Refused, Rejected) as error:
        return error.code, error.message
    wrong = flaw(vectors, 1, embed.size)
    return None if wrong is None else ("embedder-broken", f"{embed.function} {wrong}")


def contradictions(
    collection: CollectionSettings, source: CollectionSchema, transform: FieldTransform
) -> Iterator[str]:
    """Where the embedding contract is broken, in sentences."""
    contract = collection.embedding
    for name, vector in (source.vectors or {}).items():
        there = transform.target_vector(name)
        if there is None or (contract.vectors is not None and there not in contract.vectors):
            continue
        if contract.source is not None and contract.target is not None:
            differing = _differing(contract.source, contract.target)
            if differing:
                yield (
                    f"the vector {name!r} travels as it is, and its queries will be of another"
                    f" model: {'; '.join(differing)}; make it anew with `transform.embed`, or"
                    " mend the contract"
                )
        for role, model in (("source", contract.source), ("target", contract.target)):
            if model is not None and vector.kind is VectorKind.DENSE:
                yield from _unlike(role, name, model, vector)
    for name in collection.transform.embed:
        if contract.target is None or (
            contract.vectors is not None and name not in contract.vectors
        ):
            continue
        made = transform.target_schema(source).vectors or {}
        yield from _unlike("target", name, contract.target, made[name])


def _differing(ours: ModelSettings, theirs: ModelSettings) -> list[str]:
    """What both say, and say differently."""
    return [
        f"{field} {there!r} instead of {here!r}"
        for field in ours.__struct_fields__
        if _said(here := getattr(ours, field))
        and _said(there := getattr(theirs, field))
        and here != there
    ]


def _said(value: object) -> bool:
    return value is False or bool(value)  # `normalised` is false, or is not said


def _unlike(role: str, name: str, model: ModelSettings, vector: VectorSchema) -> Iterator[str]:
    """What the contract says of a vector that its collection says otherwise."""
    if model.dimension and vector.size not in (None, model.dimension):
        yield (
            f"embedding.{role}.dimension is {model.dimension}, and the vector {name!r} has"
            f" {vector.size}"
        )
    if model.metric and vector.distance is not None and vector.distance.value != model.metric:
        yield (
            f"embedding.{role}.metric is {model.metric}, and the vector {name!r} is compared by"
            f" {vector.distance.value}"
        )
