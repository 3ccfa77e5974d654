"""
The law that lets a patch travel without its image: T(p applied to x) = T(p) applied to T(x).

Over random transforms, images and patches; with the pipeline written out once more, step after
step over plain dicts, as the oracle of what T is.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from replicator.codecs.walk import without_nulls
from replicator.errors import Refused, Rejected
from replicator.model.event import ChangeEvent, Key
from replicator.model.point import Point, PointId, Vectors
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.model.traits import Lists, PayloadRules
from replicator.model.write import apply_patch
from replicator.settings.transform import CollectionSettings, TransformSettings
from replicator.stream.ids import SOURCE_ID
from replicator.stream.transform import FieldTransform
from tests.stream.strategies import NAMES, patches, payloads, scalars, vectors

QDRANT = CollectionSchema(name="t", vectors=None, ids=IdKinds.UINT64 | IdKinds.UUID)
ANY = PayloadRules()
ALL_FIELDS = ["a", "b", "c", "d"]

field = st.sampled_from(ALL_FIELDS)
target_field = st.sampled_from([*ALL_FIELDS, "x", "y"])
conditions = st.builds(
    lambda key, value: {"key": key, "match": {"value": value}},
    field,
    st.sampled_from([0, 1, 2, "5", True]),
) | st.builds(lambda key: {"is_empty": {"key": key}}, field)
filters = st.dictionaries(
    st.sampled_from(["must", "should", "must_not"]),
    st.lists(conditions, max_size=2),
    max_size=2,
)


casts = st.dictionaries(field, st.sampled_from(["int", "float", "str", "bool"]), max_size=1)
vector_names = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from([*NAMES, "v"]), max_size=3
)
transforms = st.builds(
    TransformSettings,
    filter=st.none() | filters,
    keep=st.none() | st.lists(field, min_size=2, max_size=4),
    drop=st.lists(field, max_size=1),
    default=st.dictionaries(field, scalars, max_size=2),
    cast=casts,
    rename=st.dictionaries(field, target_field, max_size=2),
    constant=st.dictionaries(target_field, scalars, max_size=1),
    vectors=st.none() | vector_names,
)


rules = st.builds(PayloadRules, nested=st.booleans(), lists=st.sampled_from(Lists))


def make(settings: TransformSettings, rules: PayloadRules = ANY) -> FieldTransform:
    try:
        collection = CollectionSettings(source="articles", target="t", transform=settings)
        return FieldTransform(collection, QDRANT, rules=rules)
    except Refused:
        assume(False)
        raise


def cast(value: Any, kind: str) -> Any:
    """The oracle's own casts, of the few values that these tests draw."""
    if value is None:
        return None
    if isinstance(value, list):
        return [cast(one, kind) for one in value]
    if isinstance(value, dict):
        raise KeyError(kind)
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    if kind == "str":
        return text
    number = {"5": 5.0}.get(value) if isinstance(value, str) else float(value)
    if kind == "bool":
        return {"true": True, "false": False, "1": True, "0": False}[
            text if isinstance(value, str | bool) and value != "5" else f"{number:g}"
        ]
    if number is None or (kind == "int" and number != int(number)):
        raise KeyError(kind)
    if kind == "float" and isinstance(value, bool):
        raise KeyError(kind)
    return int(number) if kind == "int" else number


def pipeline(
    t: TransformSettings, point_id: PointId, vectors: Vectors, payload: dict[str, Any]
) -> tuple[Vectors, dict[str, Any]]:
    """Everything behind the filter, over plain dicts. KeyError: the point cannot be carried."""
    fields = {f: v for f, v in payload.items() if t.keep is None or f in t.keep}
    fields = {f: v for f, v in fields.items() if f not in t.drop}
    for name, value in t.default.items():
        fields.setdefault(name, value)
    # A rename of a field that can never be there claims no name.
    active = {
        old: new
        for old, new in t.rename.items()
        if ((t.keep is None or old in t.keep) and old not in t.drop) or old in t.default
    }
    for name, kind in t.cast.items():
        if name in fields and active.get(name, name) not in t.constant:
            fields[name] = cast(fields[name], kind)
    renamed: dict[str, Any] = {}
    for name, value in fields.items():
        new = active.get(name, name)
        if (
            new == name
            and new not in t.constant
            and any(claim == name and old != name for old, claim in active.items())
        ):
            raise KeyError(name)
        renamed[new] = value
    renamed.update(t.constant)
    if isinstance(point_id, str):
        renamed[SOURCE_ID] = point_id
    if t.vectors is not None:
        vectors = {t.vectors[name]: v for name, v in vectors.items() if name in t.vectors}
    return vectors, renamed


def carry(t: FieldTransform, key: Key, image: Point) -> Point | Rejected | None:
    try:
        return t.point(key, image)
    except Rejected as error:
        return error


lenient = settings(
    max_examples=300, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
ids = st.sampled_from([1, "text"])


@lenient
@given(steps=transforms, vectors=vectors, payload=payloads, point_id=ids)
def test_a_transform_is_its_steps_one_after_the_other(
    steps: TransformSettings, vectors: Vectors, payload: dict[str, Any], point_id: PointId
) -> None:
    t = make(steps)
    moved = carry(t, Key("articles", point_id), Point(point_id, vectors, payload))
    if moved is None:
        assert steps.filter
        return
    try:
        expected = pipeline(steps, point_id, vectors, payload)
    except KeyError:
        assert isinstance(moved, Rejected)
        assert moved.code == "transform-failed"
        return
    assert isinstance(moved, Point)
    assert (moved.vectors, moved.payload) == expected
    assert repr(moved.payload) == repr({n: expected[1][n] for n in moved.payload})  # types too


@lenient
@given(
    steps=transforms,
    vectors=vectors,
    payload=payloads,
    point_id=ids,
    event=patches,
    rules=rules,
)
def test_a_patch_follows_a_point_to_the_target_or_asks_for_its_image(
    steps: TransformSettings,
    vectors: Vectors,
    payload: dict[str, Any],
    point_id: PointId,
    event: ChangeEvent,
    rules: PayloadRules,
) -> None:
    t = make(steps, rules)
    key = Key("articles", point_id)
    event.key = key
    event.set, event.unset = without_nulls(event.set, event.unset)  # as the decoder does
    image = Point(point_id, vectors, payload)
    before = carry(t, key, image)
    assume(not isinstance(before, Rejected))
    after = carry(t, key, apply_patch(image, event))
    if t.needs_image(event):
        assert steps.filter
        return

    try:
        patch = t.patch(key, event)
    except Rejected:
        patch = None
    if patch is None:
        # What the patch sets cannot be carried: then neither can the image that holds it, but
        # where a filter leaves the point out and nobody looks.
        assert before is None or isinstance(after, Rejected)
        return
    assert patch.id == t.target_id(key)
    if before is None:
        assert after is None  # absent at the target, where a patch writes nothing
    else:
        assert isinstance(before, Point)
        assert isinstance(after, Point)
        assert apply_patch(before, patch) == after


@lenient
@given(steps=transforms, vectors=vectors, payload=payloads)
def test_a_transform_gives_one_answer_and_changes_nothing_it_was_given(
    steps: TransformSettings, vectors: Vectors, payload: dict[str, Any]
) -> None:
    t = make(steps)
    image = Point("text", vectors, payload)
    kept = repr(image)
    key = Key("articles", "text")
    assert repr(carry(t, key, image)) == repr(carry(t, key, image))
    assert repr(image) == kept
