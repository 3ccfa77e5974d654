"""
Two collections side by side: what the target needs, what stands in the way, what gets lost.

For the preflight, the plan and the gate; no record passes through here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from replicator.codecs.rules import check_collection
from replicator.errors import Refused, Rejected
from replicator.model.configuration import configuration_differences, lost_settings
from replicator.model.finding import CheckFinding, SettingDifference, Severity
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    VectorKind,
    VectorSchema,
)
from replicator.model.traits import VectorRules
from replicator.settings.transform import CollectionSettings, TransformSettings
from replicator.stream.cast import CastName
from replicator.stream.fields import FieldMap

_SHOWN = 5
"""Settings in one finding: enough to recognise what it is about."""

_A_UUID = "00000000-0000-5000-8000-000000000000"

_CAST_INDEX = {"int": "integer", "float": "float", "bool": "bool", "str": "keyword"}


def way_back_losses(steps: TransformSettings, source: CollectionSchema | None) -> list[str]:
    """Why the way back loses something, one sentence for each reason."""
    reasons: list[str] = []
    if steps.filter:
        reasons.append("filter: points that do not match are not at the target")
    if steps.keep is not None:
        reasons.append("keep: payload fields that it does not name are not at the target")
    reasons += [f"drop: the payload field `{name}` is not at the target" for name in steps.drop]
    reasons += [
        f"cast: the payload field `{field}` is {kind} at the target, whatever it was"
        for field, kind in steps.cast.items()
    ]
    reasons += [
        f"constant: the payload field `{name}` has one value at the target, whatever it was"
        for name in steps.constant
    ]
    reasons += [
        f"computed: the payload field `{name}` tells the {what} at the target, whatever it was"
        for name, what in steps.computed.items()
    ]
    reasons += [
        f"truncate: {_named(name)} has {size} dimensions at the target"
        for name, size in steps.truncate.items()
    ]
    if steps.vectors is not None:
        if source is None or source.vectors is None:
            reasons.append("vectors: vectors that it does not name are not at the target")
        else:
            reasons += [
                f"vectors: {_named(name)} is not at the target"
                for name in source.vectors
                if name not in steps.vectors
            ]
    reasons += [
        f"embed: {_named(name)} is of another model at the target than at the source"
        for name in steps.embed
    ]
    return reasons


def losses(
    settings: CollectionSettings,
    source: CollectionSchema,
    planned: CollectionSchema,
    at_target: CollectionSchema | None = None,
) -> list[CheckFinding]:
    """
    What of the source's configuration the target will not have, one finding a code.

    `planned` is what the target makes of it (`preflight.routes.wanted_target`), `at_target` the
    collection that is there. A loss blocks until `accept` names it; in a collection that a
    person made, or at a store of another kind, only what changes answers does, and the rest
    informs. What is different in a collection that we made warns: it is made already, the
    stream must go on, and verification closes the gate.
    """
    asked = target_schema(settings, source, planned)
    found = lost_settings(asked, planned, settings.accept)
    there: list[SettingDifference] = []
    if at_target is not None and not at_target.unfinished:
        known = {difference.setting for difference in found}
        there = [
            difference
            for difference in configuration_differences(planned, at_target, settings.accept)
            if difference.setting not in known
        ]
        if not at_target.made:
            found += there
            there = []
    findings = [
        *_findings(settings, found, Severity.BLOCKS),
        *_findings(settings, there, Severity.WARNS),
    ]
    if source.aliases:
        names = ", ".join(f"`{alias}`" for alias in source.aliases)
        findings.append(
            CheckFinding(
                Severity.INFORMS,
                "aliases-stay",
                f"source/{settings.source}",
                f"{names} leads to the source's collection, and goes on to do so",
            )
        )
    return findings


def _findings(
    settings: CollectionSettings, found: list[SettingDifference], severity: Severity
) -> Iterator[CheckFinding]:
    """One a code. What is accepted, or matters little, informs."""
    for code in dict.fromkeys(difference.code for difference in found):
        ours = [difference for difference in found if difference.code == code]
        matters = any(difference.blocks for difference in ours)
        shown = "; ".join(str(difference) for difference in ours[:_SHOWN])
        more = f"; and {len(ours) - _SHOWN} more" if len(ours) > _SHOWN else ""
        accepted = " (accepted)" if code in settings.accept else ""
        yield CheckFinding(
            severity if matters else Severity.INFORMS,
            code,
            f"target/{settings.target}",
            f"source → target{accepted}: {shown}{more}",
        )


def unheld(
    settings: CollectionSettings, planned: CollectionSchema, rules: VectorRules
) -> list[CheckFinding]:
    """Whether no collection of the target can have the vectors: their kinds, names or sizes."""
    try:
        check_collection(planned, rules)
    except Refused as error:
        subject = f"target/{settings.target}"
        return [CheckFinding(Severity.BLOCKS, error.code, subject, error.message)]
    return []


def target_schema(
    settings: CollectionSettings, source: CollectionSchema, target: CollectionSchema
) -> CollectionSchema:
    """
    The collection that the target needs: the source's vectors and indexes under their new
    names. Ids and their limits are the target's own.
    """
    return msgspec.structs.replace(
        source,
        name=settings.target,
        vectors=None if source.vectors is None else _target_vectors(settings, source.vectors),
        ids=target.ids,
        id_limits=target.id_limits,
        scoped=source.scoped and target.scoped,
        indexes={name: kind for _, name, kind in _target_indexes(settings, source.indexes)},
        index_options={
            name: source.index_options[path]
            for path, name, kind in _target_indexes(settings, source.indexes)
            # The parameters of another type would mean nothing.
            if path in source.index_options and kind == source.indexes[path]
        },
        capture_id=None,
        points=None,
        physical=None,
        aliases=(),
        made=False,
        unfinished=False,
        normalises=target.normalises,
    )


def compatible(
    settings: CollectionSettings, source: CollectionSchema, target: CollectionSchema
) -> list[CheckFinding]:
    """What blocks (dimension, kind, a vector wanted and not there) and what warns."""
    return [
        CheckFinding(severity, code, f"target/{settings.target}", message)
        for severity, code, message in (
            *_vector_findings(settings, source, target),
            *_id_findings(settings, source, target),
            *_index_findings(settings, source, target),
        )
    ]


_Found = Iterator[tuple[Severity, str, str]]


def _vector_findings(
    settings: CollectionSettings, source: CollectionSchema, target: CollectionSchema
) -> _Found:
    if source.vectors is None:
        return
    for name in settings.transform.vectors or ():
        if name not in source.vectors:
            yield (
                Severity.BLOCKS,
                "transform-invalid",
                f"transform.vectors names {_named(name)}, which the source does not have",
            )
    yield from _truncation_findings(settings, source.vectors)
    if target.vectors is None:
        return
    wanted = _target_vectors(settings, source.vectors)
    for name, schema in wanted.items():
        if name in target.vectors:
            yield from _vector_differences(name, schema, target.vectors[name])
        else:
            yield (
                Severity.BLOCKS,
                "target-incompatible",
                f"{_named(name)} does not exist at the target",
            )
    for name, schema in target.vectors.items():
        if schema.required and name not in wanted:
            yield (
                Severity.BLOCKS,
                "target-incompatible",
                f"the target demands {_named(name)}, and no vector of the source becomes it",
            )


def _truncation_findings(
    settings: CollectionSettings, vectors: dict[str, VectorSchema]
) -> _Found:
    names = settings.transform.vectors
    arriving = {
        name if names is None else names[name]: schema
        for name, schema in vectors.items()
        if names is None or name in names
    }
    for name, size in settings.transform.truncate.items():
        schema = arriving.get(name)
        if schema is None:
            why = "no vector of the source becomes it"
        elif schema.kind is not VectorKind.DENSE:
            why = f"it is {schema.kind.value}"
        elif schema.size is not None and schema.size < size:
            why = f"it has {schema.size} dimensions"
        else:
            continue
        what = f"transform.truncate leaves {size} dimensions of {_named(name)}, and {why}"
        yield Severity.BLOCKS, "transform-invalid", what


def _vector_differences(name: str, ours: VectorSchema, theirs: VectorSchema) -> _Found:
    if ours.kind is not theirs.kind:
        yield (
            Severity.BLOCKS,
            "target-incompatible",
            f"{_named(name)} is {ours.kind.value} at the source, {theirs.kind.value} at the"
            " target",
        )
        return
    if None not in (ours.size, theirs.size) and ours.size != theirs.size:
        yield (
            Severity.BLOCKS,
            "target-incompatible",
            f"{_named(name)} has {ours.size} dimensions at the source, {theirs.size} at the"
            " target",
        )


def _id_findings(
    settings: CollectionSettings, source: CollectionSchema, target: CollectionSchema
) -> _Found:
    held = target.ids
    if held & IdKinds.STRING:
        held |= IdKinds.UUID
    if target.scoped and not source.scoped:
        yield (
            Severity.BLOCKS,
            "target-incompatible",
            "it has tenants, partitions or shard keys, and a point of the source does not say"
            " where it belongs",
        )
        return
    if source.scoped and not target.scoped:
        mapped = settings.ids != "keep" and held & IdKinds.UUID
        yield (
            Severity.INFORMS if mapped else Severity.BLOCKS,
            "id-invalid",
            "ids are unique only within their scopes, and the target has none: "
            + (
                "each becomes a UUID of its own there, with the original in `_source_id` and"
                " `_source_scope`"
                if mapped
                else 'only as UUIDs are they told apart, with `ids = "auto"`'
            ),
        )
        return
    if settings.ids == "mapped":
        holds = target.id_limits.hold(target.ids, _A_UUID)
        yield (
            Severity.INFORMS if holds else Severity.BLOCKS,
            "id-invalid",
            "every id becomes a UUID of its own there, with the original in `_source_id` and"
            " the collection in `_source_collection`"
            if holds
            else 'with `ids = "mapped"` every id becomes a UUID, and the target can hold none',
        )
        return
    foreign = source.ids & ~held
    if not foreign:
        return
    kinds = " and ".join(kind.name or "" for kind in IdKinds if kind in foreign)
    if settings.ids == "auto" and held & IdKinds.UUID:
        yield (
            Severity.INFORMS,
            "id-invalid",
            f"ids that the target cannot hold ({kinds}) become UUIDs there, with the original"
            " in `_source_id`",
        )
    else:
        yield (
            Severity.WARNS,
            "id-invalid",
            f"the source may hold ids that the target cannot ({kinds}): such points go to the"
            " dead letters",
        )


def _index_findings(
    settings: CollectionSettings, source: CollectionSchema, target: CollectionSchema
) -> _Found:
    for _, field, kind in _target_indexes(settings, source.indexes):
        there = target.indexes.get(field)
        if there != kind:
            yield (
                Severity.WARNS,
                "target-incompatible",
                f"the payload field `{field}` has "
                + (f"an index of type {there}" if there else "no index")
                + f" at the target, where the source's is {kind}: filters will be slower or"
                " answer differently",
            )


def _target_vectors(
    settings: CollectionSettings, vectors: dict[str, VectorSchema]
) -> dict[str, VectorSchema]:
    names, anew = settings.transform.vectors, settings.transform.embed
    sizes = settings.transform.truncate
    if names is not None:
        vectors = {names[name]: schema for name, schema in vectors.items() if name in names}
    made = {
        name: VectorSchema(size=embed.size, distance=Distance(embed.distance))
        for name, embed in anew.items()
    }
    kept = {
        name: msgspec.structs.replace(schema, size=sizes.get(name, schema.size))
        for name, schema in vectors.items()
        if name not in anew
    }
    return kept | made


def _target_indexes(
    settings: CollectionSettings, indexes: dict[str, str]
) -> Iterator[tuple[str, str, str]]:
    """
    Indexes of fields that reach the target: path there, path here, type. Nested fields follow
    their top-level one.
    """
    steps = settings.transform
    fields = FieldMap(steps)
    for path, kind in indexes.items():
        field = re.split(r"[.\[]", path, maxsplit=1)[0]
        try:
            name = fields.target_name(field)
        except Rejected:
            continue  # another field takes its name; the points that have it are rejected
        if name is not None:
            yield path, name + path[len(field) :], _index_kind(kind, steps.cast.get(field))


def _index_kind(kind: str, cast: CastName | None) -> str:
    if cast is None or (cast == "str" and kind == "text"):
        return kind
    return _CAST_INDEX[cast]


def _named(name: str) -> str:
    return f"the vector `{name}`" if name else "the unnamed vector"
