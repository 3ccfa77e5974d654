from __future__ import annotations

import struct
from typing import Any

import pytest

from replicator.errors import Refused, Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import Point, PointId, ScopedId, SparseVector
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.settings.transform import CollectionSettings, TransformSettings
from replicator.stream.ids import SOURCE_ID
from replicator.stream.transform import FieldTransform, IdentityTransform

VECTOR = struct.pack("<2f", 1, 2)
QDRANT = CollectionSchema(name="t", vectors=None, ids=IdKinds.UINT64 | IdKinds.UUID)
YEARS = {"must": [{"key": "year", "range": {"gte": 2000}}]}


def transform(ids: str = "auto", **steps: Any) -> FieldTransform:
    settings = CollectionSettings(
        source="articles",
        target="t",
        ids=ids,  # type: ignore[arg-type]
        transform=TransformSettings(**steps),
    )
    return FieldTransform(settings, QDRANT)


def carried(
    t: FieldTransform, payload: dict[str, Any], point_id: PointId = 1
) -> dict[str, Any]:
    point = t.point(Key("articles", point_id), Point(point_id, {}, payload))
    assert point is not None
    return point.payload


def patch(point_id: PointId = 1, **fields: Any) -> ChangeEvent:
    return ChangeEvent(op=Op.PATCH, key=Key("articles", point_id), ts_ms=0, **fields)


def rejected_path(t: FieldTransform, payload: dict[str, Any], point_id: PointId = 1) -> str:
    with pytest.raises(Rejected) as rejected:
        carried(t, payload, point_id)
    assert rejected.value.code == "transform-failed"
    return rejected.value.path


# -- points ------------------------------------------------------------------------------------


def test_a_point_that_needs_no_change_is_passed_on_without_a_copy() -> None:
    point = Point(1, {"": VECTOR}, {"a": 1})
    assert transform().point(Key("articles", 1), point) is point
    assert transform().identity


def test_each_step_makes_a_transform_that_is_no_identity() -> None:
    steps: list[dict[str, Any]] = [
        {"filter": YEARS},
        {"keep": []},
        {"drop": ["a"]},
        {"default": {"a": 1}},
        {"cast": {"a": "int"}},
        {"rename": {"a": "b"}},
        {"constant": {"a": 1}},
        {"computed": {"a": "id"}},
        {"vectors": {}},
        {"truncate": {"v": 1}},
    ]
    assert not any(transform(**step).identity for step in steps)


def test_a_point_that_the_filter_excludes_has_no_place_at_the_target() -> None:
    t = transform(filter=YEARS)
    assert t.point(Key("articles", 1), Point(1, {}, {"year": 1999})) is None
    assert carried(t, {"year": 2000}) == {"year": 2000}


def test_the_filter_reads_the_source_payload_before_any_other_step() -> None:
    t = transform(filter=YEARS, rename={"year": "y"}, drop=["other"], default={"year": 2020})
    assert carried(t, {"year": 2000}) == {"y": 2000}
    assert t.point(Key("articles", 1), Point(1, {}, {})) is None


def test_keep_lets_only_its_fields_travel_and_drop_takes_from_them() -> None:
    assert carried(transform(keep=["a", "b"], drop=["b"]), {"a": 1, "b": 2, "c": 3}) == {"a": 1}
    assert carried(transform(keep=[]), {"a": 1}) == {}


def test_a_default_fills_a_missing_field_and_not_a_null_one() -> None:
    t = transform(default={"a": 5})
    assert carried(t, {}) == {"a": 5}
    assert carried(t, {"a": None}) == {"a": None}
    assert carried(t, {"a": 1}) == {"a": 1}


def test_a_default_is_cast_and_renamed_like_the_field_it_stands_for() -> None:
    t = transform(default={"a": "5"}, cast={"a": "int"}, rename={"a": "b"})
    assert carried(t, {}) == {"b": 5}


def test_two_fields_can_swap_their_names() -> None:
    assert carried(transform(rename={"a": "b", "b": "a"}), {"a": 1, "b": 2}) == {"b": 1, "a": 2}


def test_a_constant_stands_whatever_the_point_says() -> None:
    assert carried(transform(constant={"lang": "en"}), {"lang": "de"}) == {"lang": "en"}
    t = transform(constant={"lang": "en"}, rename={"l": "lang"})
    assert carried(t, {"l": "de", "a": 1}) == {"lang": "en", "a": 1}


def test_what_is_computed_from_the_key_stands_whatever_the_point_says() -> None:
    t = transform(computed={"from": "collection", "of": "scope", "number": "id"})
    assert carried(t, {"from": "here", "n": 1}) == {
        "from": "articles",
        "number": 1,
        "n": 1,
    }
    scoped = ScopedId("tenant", 7)
    point = t.point(Key("articles", scoped), Point(scoped, {}, {"of": "nobody"}))
    assert point is not None
    told = {"from": "articles", "of": "tenant", "number": 7}
    assert {name: point.payload[name] for name in told} == told
    moved = t.patch(Key("articles", 1), patch(set={"from": 1, "a": 2}, unset=("number", "b")))
    assert (moved.set, moved.unset) == ({"a": 2}, ("b",))


def test_the_beginning_of_a_vector_is_left_and_has_length_one() -> None:
    t = transform(vectors={"": "v", "w": "w"}, truncate={"v": 2})
    long = struct.pack("<3f", 3, 4, 12)
    point = t.point(Key("articles", 1), Point(1, {"": long, "w": long}, {}))
    assert point is not None
    assert struct.unpack("<2f", point.vectors["v"]) == pytest.approx((0.6, 0.8))  # type: ignore[arg-type]
    assert point.vectors["w"] == long
    moved = t.patch(Key("articles", 1), patch(vectors={"": long}))
    assert moved.vectors == {"v": point.vectors["v"]}
    for bad in (struct.pack("<f", 1), SparseVector(b"", b"")):
        with pytest.raises(Rejected) as rejected:
            t.point(Key("articles", 1), Point(1, {"": bad}, {}))
        assert (rejected.value.code, rejected.value.path) == ("transform-failed", 'vectors."v"')


def test_a_field_whose_name_another_one_takes_is_rejected_and_never_overwritten() -> None:
    t = transform(rename={"a": "b"})
    assert rejected_path(t, {"a": 1, "b": 2}) == "payload.b"
    assert rejected_path(t, {"b": 2}) == "payload.b"
    assert carried(transform(rename={"a": "b"}, drop=["b"]), {"a": 1, "b": 2}) == {"b": 1}


def test_a_value_that_does_not_fit_its_cast_is_rejected_with_its_path() -> None:
    assert rejected_path(transform(cast={"a": "int"}), {"a": "five"}) == "payload.a"


def test_vectors_are_renamed_and_those_not_named_stay_behind() -> None:
    t = transform(vectors={"": "dense", "title": "title"})
    point = t.point(
        Key("articles", 1), Point(1, {"": VECTOR, "title": VECTOR, "x": VECTOR}, {})
    )
    assert point is not None
    assert point.vectors == {"dense": VECTOR, "title": VECTOR}
    assert (t.target_vector(""), t.target_vector("x")) == ("dense", None)
    assert transform().target_vector("x") == "x"


def test_a_mapped_point_carries_its_source_id() -> None:
    t = transform()
    assert carried(t, {"a": 1}, "x") == {"a": 1, SOURCE_ID: "x"}
    assert carried(t, {"a": 1, SOURCE_ID: "x"}, "x") == {"a": 1, SOURCE_ID: "x"}
    assert carried(t, {"a": 1}, 5) == {"a": 1}


def test_a_field_that_the_source_id_would_overwrite_is_rejected_and_not_lost() -> None:
    assert rejected_path(transform(), {SOURCE_ID: "y"}, "x") == f"payload.{SOURCE_ID}"
    assert rejected_path(transform(), {SOURCE_ID: 5}, "5") == f"payload.{SOURCE_ID}"
    assert carried(transform(), {SOURCE_ID: "y"}, 5) == {SOURCE_ID: "y"}
    assert carried(transform(drop=[SOURCE_ID]), {SOURCE_ID: "y"}, "x") == {SOURCE_ID: "x"}


def test_a_point_is_left_as_it_was() -> None:
    point = Point("x", {"": VECTOR}, {"a": "1", "b": [1]})
    t = transform(cast={"a": "int"}, rename={"b": "c"}, vectors={"": "v"}, default={"d": 1})
    t.point(Key("articles", "x"), point)
    assert point == Point("x", {"": VECTOR}, {"a": "1", "b": [1]})


# -- patches -----------------------------------------------------------------------------------


def test_a_patch_speaks_the_targets_names() -> None:
    t = transform(rename={"a": "b"}, cast={"a": "int"}, vectors={"": "v", "w": "w"}, drop=["z"])
    made = t.patch(
        Key("articles", 1),
        patch(
            set={"a": "5", "z": 1},
            unset=("c", "z"),
            vectors={"": VECTOR, "x": VECTOR},
            unset_vectors=("w", "y"),
        ),
    )
    assert (made.set, made.unset) == ({"b": 5}, ("c",))
    assert (made.vectors, made.unset_vectors) == ({"v": VECTOR}, ("w",))


def test_a_patch_that_unsets_a_field_with_a_default_sets_the_default() -> None:
    made = transform(default={"a": 5}).patch(Key("articles", 1), patch(unset=("a",)))
    assert (made.set, made.unset) == ({"a": 5}, ())


def test_a_patch_cannot_touch_a_constant() -> None:
    t = transform(constant={"lang": "en"})
    for event in (patch(set={"lang": "de"}), patch(unset=("lang",))):
        made = t.patch(Key("articles", 1), event)
        assert (made.set, made.unset) == ({}, ())


def test_a_patch_cannot_take_the_source_id_from_a_mapped_point() -> None:
    t = transform()
    key = Key("articles", "x")
    assert t.patch(key, patch("x", unset=(SOURCE_ID, "a"))).unset == ("a",)
    assert t.patch(key, patch("x", set={SOURCE_ID: "x"})).set == {}
    with pytest.raises(Rejected, match="taken"):
        t.patch(key, patch("x", set={SOURCE_ID: "y"}))
    assert t.patch(key, patch("x")).id == t.target_id(key)


def test_a_patch_may_use_that_field_where_the_id_is_kept() -> None:
    made = transform().patch(Key("articles", 5), patch(5, set={SOURCE_ID: "y"}))
    assert made.set == {SOURCE_ID: "y"}


def test_a_patch_needs_the_image_when_it_touches_what_the_filter_reads() -> None:
    t = transform(filter=YEARS)
    assert t.needs_image(patch(set={"year": 5}))
    assert t.needs_image(patch(unset=("year",)))
    assert not t.needs_image(patch(set={"title": 5}, unset=("x",), vectors={"": VECTOR}))
    assert not transform().needs_image(patch(set={"year": 5}))


def test_an_upsert_or_a_delete_never_needs_an_image() -> None:
    t = transform(filter=YEARS)
    for op in (Op.UPSERT, Op.DELETE):
        event = ChangeEvent(op=op, key=Key("articles", 1), ts_ms=0, payload={"year": 5})
        assert not t.needs_image(event)


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        {"filter": {"musst": []}},
        {"rename": {"a": "c", "b": "c"}},
        {"vectors": {"": "v", "w": "v"}},
        {"default": {"a": "five"}, "cast": {"a": "int"}},
        {"default": {"b": 1}, "rename": {"a": "b"}},
        {"constant": {SOURCE_ID: 1}},
        {"computed": {SOURCE_ID: "id"}},
        {"rename": {"a": SOURCE_ID}},
        {"default": {SOURCE_ID: 1}},
    ],
)
def test_settings_that_contradict_themselves_are_refused(steps: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        transform(**steps)
    assert refused.value.code == "transform-invalid"


def test_the_source_id_field_is_free_where_ids_are_kept() -> None:
    assert carried(transform("keep", constant={SOURCE_ID: 7}), {}) == {SOURCE_ID: 7}


# -- the way back ------------------------------------------------------------------------------


def test_in_reverse_everything_passes_as_it_is() -> None:
    back = IdentityTransform()
    for point_id in ("x", 5, -5, "é" * 200):
        key = Key("articles", point_id)
        point = Point(point_id, {"": VECTOR}, {"year": 1, SOURCE_ID: "y"})
        assert back.point(key, point) is point
        assert back.target_id(key) == point_id
        event = patch(point_id, set={"a": 1, SOURCE_ID: 2}, unset=("b",), unset_vectors=("v",))
        assert not back.needs_image(event)
        made = back.patch(key, event)
        assert (made.id, made.set, made.unset) == (point_id, {"a": 1, SOURCE_ID: 2}, ("b",))
        assert made.unset_vectors == ("v",)
    assert back.identity
    assert back.lossy == []


@pytest.mark.parametrize("field", ["_source_id", "_source_scope", "_source_collection"])
def test_what_tells_where_a_point_came_from_is_nobodys_to_set(field: str) -> None:
    setting: dict[str, Any] = {"constant": {field: "x"}}
    with pytest.raises(Refused) as caught:
        transform("mapped", **setting)
    assert caught.value.code == "transform-invalid"
    transform("keep", **setting)
    if field == "_source_collection":
        transform("auto", **setting)
