from __future__ import annotations

import uuid

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from replicator.codecs.keys import encode_key
from replicator.errors import Rejected
from replicator.model.event import Key
from replicator.model.point import PointId, ScopedId
from replicator.model.schema import CollectionSchema, IdKinds, is_uuid
from replicator.stream.ids import NAMESPACE, SOURCE_ID, IdMap

QDRANT = IdKinds.UINT64 | IdKinds.UUID
UUID = "0b7cb5c1-5b2c-4b1e-9d0c-3f1a2b3c4d5e"


def schema(ids: IdKinds) -> CollectionSchema:
    return CollectionSchema(name="c", vectors=None, ids=ids)


def ids(
    target: IdKinds = QDRANT, *, keep: bool = False, source: IdKinds | None = None
) -> IdMap:
    known = None if source is None else schema(source)
    return IdMap("keep" if keep else "auto", schema(target), "articles", known)


def key(point_id: PointId) -> Key:
    return Key("articles", point_id)


def test_an_id_that_the_target_holds_is_kept_with_its_type() -> None:
    for point_id in (0, 5, 2**64 - 1, UUID):
        assert ids().to_target(key(point_id)) == point_id
        assert not ids().maps(point_id)
    assert ids(IdKinds.STRING).to_target(key("5")) == "5"


def test_any_other_id_becomes_the_uuid_of_its_event_key() -> None:
    mapped = ids().to_target(key("a b"))
    assert mapped == str(uuid.uuid5(NAMESPACE, "articles/a%20b"))
    assert ids().maps("a b")


def test_a_mapped_id_never_changes_between_releases() -> None:
    assert ids().to_target(key("post-1")) == "deb75837-46eb-5b7e-8888-fce519505dea"


def test_one_id_in_two_collections_gives_two_points() -> None:
    other = IdMap("auto", schema(QDRANT), "drafts")
    assert ids().to_target(key("x")) != other.to_target(Key("drafts", "x"))


def test_a_text_of_digits_is_not_the_integer() -> None:
    assert ids().to_target(key(5)) == 5
    assert ids().to_target(key("5")) != 5
    assert is_uuid(str(ids().to_target(key("5"))))


def test_an_integer_is_mapped_where_only_texts_are_held() -> None:
    assert ids(IdKinds.STRING).maps(5)
    assert ids(IdKinds.STRING).to_target(key(5)) == str(uuid.uuid5(NAMESPACE, "articles/5"))


def test_a_uuid_in_upper_case_is_the_same_key_as_an_event_would_spell_it() -> None:
    for target in (QDRANT, IdKinds.STRING):
        assert ids(target).to_target(key(UUID.upper())) == UUID
        assert not ids(target).maps(UUID.upper())


def test_a_uuid_without_hyphens_is_a_text_and_not_the_uuid() -> None:
    assert ids().to_target(key(UUID.replace("-", ""))) != UUID


@pytest.mark.parametrize("point_id", ["x", "5", -1, 2**64])
def test_with_keep_an_id_that_the_target_does_not_hold_is_rejected(point_id: PointId) -> None:
    with pytest.raises(Rejected) as rejected:
        ids(keep=True).to_target(key(point_id))
    assert (rejected.value.code, rejected.value.path) == ("id-invalid", "id")
    assert not ids(keep=True).maps(point_id)


@pytest.mark.parametrize("point_id", ["", "x" * 513, "é" * 300, 2**64, -(2**63) - 1])
def test_an_id_that_no_event_key_can_hold_is_rejected(point_id: PointId) -> None:
    with pytest.raises(Rejected) as rejected:
        ids().to_target(key(point_id))
    assert rejected.value.code == "id-invalid"


def test_a_target_of_integers_alone_cannot_hold_mapped_ids() -> None:
    with pytest.raises(Rejected, match="cannot hold"):
        ids(IdKinds.UINT64).to_target(key("x"))


def test_the_way_back_leads_through_the_payload_for_mapped_ids_only() -> None:
    mapped = ids().to_target(key("x"))
    assert ids().to_source(mapped, {SOURCE_ID: "x"}) == "x"
    assert ids().to_source(5, {}) == 5
    assert ids().to_source(UUID, {}) == UUID


@pytest.mark.parametrize("stray", ["x", "", "x" * 600, 5, True, None, ["x"], UUID])
def test_a_source_id_field_of_somebody_else_is_not_believed(stray: object) -> None:
    assert ids().to_source(UUID, {SOURCE_ID: stray}) == UUID


def test_a_target_id_that_the_source_cannot_hold_is_not_from_there() -> None:
    assert ids(source=IdKinds.UINT64).to_source(UUID, {}) is None
    assert ids(IdKinds.STRING).to_source(5, {}) is None


def test_a_point_that_was_mapped_once_before_has_two_possible_origins() -> None:
    before = ids(source=IdKinds.STRING).to_target(key("x"))
    assert ids().candidates(before, {SOURCE_ID: "x"}) == ["x", before]
    # …and only one where the source cannot hold a text.
    assert ids(source=QDRANT).candidates(before, {SOURCE_ID: "x"}) == [before]


source_ids = (
    st.integers(-(2**63), 2**64 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
    | st.uuids().map(str)
    | st.uuids().map(lambda u: str(u).upper())
    | st.integers(0, 20).map(str)
)
targets = st.sampled_from(
    [
        QDRANT,
        IdKinds.UUID,
        IdKinds.STRING,
        QDRANT | IdKinds.STRING,
        IdKinds.STRING | IdKinds.UUID,
    ]
)


@given(target=targets, first=source_ids, second=source_ids)
def test_two_event_keys_never_share_a_target_id(
    target: IdKinds, first: PointId, second: PointId
) -> None:
    assume(encode_key(key(first)) != encode_key(key(second)))
    assert ids(target).to_target(key(first)) != ids(target).to_target(key(second))


@given(target=targets, point_id=source_ids)
def test_every_id_gets_a_place_that_the_target_can_hold_and_the_way_back_from_it(
    target: IdKinds, point_id: PointId
) -> None:
    mapping = ids(target)
    target_id = mapping.to_target(key(point_id))
    assert schema(target).holds(target_id)
    payload = {SOURCE_ID: point_id} if mapping.maps(point_id) else {}
    back = mapping.to_source(target_id, payload)
    assert back is not None
    assert encode_key(key(back)) == encode_key(key(point_id))
    assert type(back) is type(point_id)


# -- every id mapped -----------------------------------------------------------------------


def mapped(collection: str = "articles", target: IdKinds = QDRANT) -> IdMap:
    return IdMap("mapped", schema(target), collection, schema(QDRANT))


def test_with_mapped_every_id_is_the_uuid_of_its_event_key_fitting_or_not() -> None:
    for point_id in (0, 5, UUID, "x"):
        spelled = encode_key(key(point_id)).decode()
        assert mapped().to_target(key(point_id)) == str(uuid.uuid5(NAMESPACE, spelled))
        assert mapped().maps(point_id)
    fields = {"_source_id": 5, "_source_collection": "articles"}
    assert mapped().origin(key(5)) == fields


@given(st.sampled_from([0, 7, UUID]), st.sampled_from(["articles", "drafts", "a/b", ""]))
def test_a_mapped_point_leads_back_in_its_own_collection_and_in_no_other(
    point_id: PointId, collection: str
) -> None:
    ours = mapped(collection)
    payload = ours.origin(Key(collection, point_id))
    target_id = ours.to_target(Key(collection, point_id))
    assert ours.candidates(target_id, payload) == [point_id]
    lie = payload | {"_source_collection": "another"}
    for other in {"articles", "drafts", "a/b", ""} - {collection}:
        assert mapped(other).candidates(target_id, payload) == []
        assert mapped(other).candidates(target_id, lie) == []


def test_with_mapped_a_point_is_never_taken_for_the_source_id_that_its_own_id_spells() -> None:
    assert mapped().candidates(UUID, {}) == []
    assert mapped().candidates(UUID, {SOURCE_ID: UUID}) == []


@given(st.one_of(st.integers(0, 2**64 - 1), st.uuids().map(str), st.text(min_size=1)))
def test_a_stray_has_a_name_that_leads_to_it_and_that_no_key_has(target_id: PointId) -> None:
    ids = mapped(target=QDRANT | IdKinds.STRING)
    name = ids.stray(target_id)
    assert ids.of_stray(name) == target_id
    with pytest.raises(Rejected) as caught:
        ids.to_target(key(name))
    assert caught.value.code == "id-invalid"
    within = ids.stray(ScopedId("tenant", 5))
    assert ids.of_stray(within) == ScopedId("tenant", 5)


@pytest.mark.parametrize("name", [5, "x", "_target:", "_target:{}", '_target:"'])
def test_what_is_no_name_of_a_stray_leads_nowhere(name: PointId) -> None:
    assert mapped().of_stray(name) is None


def test_elsewhere_a_stray_is_called_by_its_own_id() -> None:
    assert ids().stray(UUID) == UUID
    assert ids().of_stray('_target:"x"') is None
    assert ids(IdKinds.STRING).to_target(key('_target:"x"')) == '_target:"x"'
