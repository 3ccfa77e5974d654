"""Ids and points of collections with scopes: what becomes of them at a target."""

from __future__ import annotations

import uuid

import pytest

from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.finding import Severity
from replicator.model.point import BareId, Point, PointId, ScopedId
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.settings.transform import CollectionSettings, TransformSettings
from replicator.stream.ids import NAMESPACE, IdMap
from replicator.stream.transform import FieldTransform

QDRANT = IdKinds.UINT64 | IdKinds.UUID
SETTINGS = CollectionSettings(source="c", target="c", scopes="*")


def schema(*, scoped: bool, ids: IdKinds = QDRANT | IdKinds.STRING) -> CollectionSchema:
    return CollectionSchema(name="c", vectors=None, ids=ids, scoped=scoped)


SOURCE = schema(scoped=True)
TENANTS = schema(scoped=True, ids=QDRANT)
TOGETHER = schema(scoped=False, ids=QDRANT)
NUMBERS = schema(scoped=False, ids=IdKinds.UINT64)


def key(point_id: BareId, scope: str = "a") -> Key:
    return Key("c", ScopedId(scope, point_id))


def mapped(text: str) -> str:
    return str(uuid.uuid5(NAMESPACE, text))


def transform(target: CollectionSchema, **steps: object) -> FieldTransform:
    settings = CollectionSettings(
        source="c",
        target="c",
        scopes="*",
        transform=TransformSettings(**steps),  # type: ignore[arg-type]
    )
    return FieldTransform(settings, target, SOURCE)


@pytest.mark.parametrize(
    ("target", "point_id", "expected"),
    [
        (TENANTS, 5, ScopedId("a", 5)),
        (TENANTS, "x", ScopedId("a", mapped("c/a/x"))),
        (TOGETHER, 5, mapped("c/a/5")),
        (TOGETHER, "x", mapped("c/a/x")),
        (schema(scoped=False), "x", mapped("c/a/x")),
    ],
)
def test_an_id_stays_in_its_scope_and_is_mapped_where_there_is_none(
    target: CollectionSchema, point_id: BareId, expected: PointId
) -> None:
    ids = IdMap("auto", target, "c", SOURCE)
    assert ids.to_target(key(point_id)) == expected
    assert ids.to_target(key(point_id, "b")) != expected


@pytest.mark.parametrize("target", [TENANTS, TOGETHER])
@pytest.mark.parametrize("point_id", [5, "x"])
def test_every_point_leads_back_to_its_key(target: CollectionSchema, point_id: BareId) -> None:
    made = transform(target).point(key(point_id), Point(key(point_id).id, {}, {"n": 1}))
    assert made is not None
    ids = IdMap("auto", target, "c", SOURCE)
    # Behind it may stand the id itself, which a source of texts could hold as well.
    assert ids.candidates(made.id, made.payload)[0] == ScopedId("a", point_id)
    # A scope of somebody's own leads nowhere.
    if target is TOGETHER:
        assert not ids.candidates(made.id, {**made.payload, "_source_scope": "b"})
        assert not ids.candidates(made.id, {"_source_id": point_id})


def test_a_fan_in_keeps_where_a_point_came_from_in_two_fields() -> None:
    steps = transform(TOGETHER)
    origin = {"_source_id": 5, "_source_scope": "a"}
    made = steps.point(key(5), Point(ScopedId("a", 5), {}, {"n": 1}))
    assert made == Point(mapped("c/a/5"), {}, {"n": 1, **origin})
    within = transform(TENANTS).point(key("x"), Point(ScopedId("a", "x"), {}, {}))
    assert within is not None
    assert within.payload == {"_source_id": "x"}, "the scope is the id's own there"


def test_a_patch_leaves_alone_what_says_where_a_point_came_from() -> None:
    event = ChangeEvent(
        op=Op.PATCH,
        key=key(5),
        ts_ms=0,
        set={"n": 1, "_source_scope": "a"},
        unset=("_source_id",),
    )
    patch = transform(TOGETHER).patch(key(5), event)
    assert (patch.id, patch.set, patch.unset) == (mapped("c/a/5"), {"n": 1}, ())
    event.set = {"_source_scope": "b"}
    with pytest.raises(Rejected) as caught:
        transform(TOGETHER).patch(key(5), event)
    assert caught.value.path == "payload._source_scope"


def test_a_filter_by_id_speaks_of_the_id_alone() -> None:
    steps = transform(TENANTS, filter={"must": [{"has_id": [5]}]})
    for scope in "ab":
        assert steps.point(key(5, scope), Point(ScopedId(scope, 5), {}, {})) is not None
        assert steps.point(key(6, scope), Point(ScopedId(scope, 6), {}, {})) is None


def test_an_id_without_a_scope_has_no_place_where_there_are_scopes() -> None:
    assert not TENANTS.holds(5)
    assert not TOGETHER.holds(ScopedId("a", 5))
    with pytest.raises(Rejected, match="says none"):
        IdMap("auto", TENANTS, "c", TOGETHER).to_target(Key("c", 5))


@pytest.mark.parametrize(
    ("source", "target", "ids", "severity", "code"),
    [
        (SOURCE, TOGETHER, "auto", Severity.INFORMS, "id-invalid"),
        (SOURCE, TOGETHER, "keep", Severity.BLOCKS, "id-invalid"),
        (SOURCE, NUMBERS, "auto", Severity.BLOCKS, "id-invalid"),
        (TOGETHER, TENANTS, "auto", Severity.BLOCKS, "target-incompatible"),
    ],
)
def test_what_a_target_makes_of_scopes_is_told_beforehand(
    source: CollectionSchema, target: CollectionSchema, ids: str, severity: Severity, code: str
) -> None:
    settings = CollectionSettings(source="c", target="c", ids=ids)  # type: ignore[arg-type]
    found = FieldTransform(settings, target, source).compatible(source, target)
    assert [(each.severity, each.code) for each in found] == [(severity, code)]


def test_nothing_is_told_where_nothing_changes() -> None:
    assert FieldTransform(SETTINGS, TENANTS, TENANTS).compatible(TENANTS, TENANTS) == []
