"""Fields as properties, and classes as their documents say them: what needs no server."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest

from replicator.connectors.weaviate.classes import (
    REST,
    Class,
    Property,
    Said,
    read_class,
    read_said,
    write_said,
)
from replicator.connectors.weaviate.configuration import can_be, creation, named, plan
from replicator.connectors.weaviate.kind import WeaviateOptions, WeaviateSettings
from replicator.connectors.weaviate.objects import object_of
from replicator.connectors.weaviate.ranges import NIL, cut
from replicator.connectors.weaviate.values import asked, fits
from replicator.errors import Refused, Rejected
from replicator.model.point import Point
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    IndexKind,
    Mark,
    Quantization,
    VectorIndex,
    VectorKind,
    VectorSchema,
)

NESTED = Property("o", "object", nested={"a": Property("a", "int"), "t": Property("t", "text")})
GEO = {"latitude": 52.5, "longitude": 13.25}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", ""),
        ("int", 1 << 53),
        ("int", -(1 << 53)),
        ("number", 0.1),
        ("number", 5),
        ("boolean", False),
        ("date", "2020-01-02T03:04:05Z"),
        ("date", "2020-01-02T03:04:05.12+02:00"),
        ("date", "2020-01-02T03:04:05.123456789Z"),
        ("uuid", str(uuid.UUID(int=5))),
        ("blob", "aGFsbG8="),
        ("geoCoordinates", GEO),
        ("text[]", []),
        ("int[]", [1, 2]),
        ("number[]", [1, 2.5]),
        ("boolean[]", [True]),
        ("date[]", ["2020-01-02T03:04:05Z"]),
    ],
)
def test_a_property_holds_what_it_gives_back(kind: str, value: Any) -> None:
    assert fits(Property("p", kind), value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", None),
        ("text", 5),
        ("int", (1 << 53) + 1),  # every number travels as a float64
        ("int", 5.0),
        ("int", True),
        ("number", (1 << 53) + 1),
        ("number", True),
        ("boolean", 1),
        # written anew by the server: 05.12, Z, and no date at all
        ("date", "2020-01-02T03:04:05.120Z"),
        ("date", "2020-01-02T03:04:05+00:00"),
        ("date", "2020-13-02T03:04:05Z"),
        ("date", "2020-01-02"),
        ("uuid", str(uuid.UUID(int=10)).upper()),
        ("blob", "hallo"),
        ("blob", ""),
        ("geoCoordinates", {"latitude": 52.52, "longitude": 13.25}),  # a float32 there
        ("geoCoordinates", {"lat": 52.5, "lon": 13.25}),
        ("geoCoordinates", {"latitude": 1e300, "longitude": 13.25}),
        ("text[]", "text"),
        ("text[]", ["a", None]),
        ("int[]", [1, 2.5]),
        ("phoneNumber", {"input": "1"}),
    ],
)
def test_a_property_does_not_hold_what_it_would_change(kind: str, value: Any) -> None:
    assert not fits(Property("p", kind), value)


def test_an_object_holds_the_properties_that_it_declares_and_no_null() -> None:
    assert fits(NESTED, {"a": 1, "t": "x"})
    assert fits(NESTED, {})
    assert not fits(NESTED, {"b": 1})
    assert not fits(NESTED, {"a": None})
    listed = msgspec.structs.replace(NESTED, type="object[]")
    assert fits(listed, [{"a": 1}, {}])
    assert not fits(listed, [{"a": "x"}])


def test_of_an_object_every_property_within_is_asked_for() -> None:
    outer = Property("deep", "object[]", nested={"o": NESTED, "n": Property("n", "int")})
    request = asked({"deep": outer, "title": Property("title", "text")})
    [deep] = request.object_properties
    assert list(request.non_ref_properties) == ["title"]
    assert list(deep.primitive_properties) == ["n"]
    assert list(deep.object_properties[0].primitive_properties) == ["a", "t"]


@pytest.mark.parametrize("words", ["", "Articles of ours.", "two\nlines", "[in brackets]"])
def test_the_words_of_others_stay_in_a_description(words: str) -> None:
    said = Said(made=True, sizes={"": 3}, mark=Mark("ä]}", 2, 3))
    once = write_said(words, said)
    assert read_said(once) == said
    assert write_said(once, Said()) == words
    again = write_said(once, Said(made=True))
    assert (read_said(again), write_said(again, Said())) == (Said(made=True), words)


@pytest.mark.parametrize(
    "text", ["", "words", "[vector-replicator {]", '[vector-replicator {"made":7}]']
)
def test_what_is_not_ours_in_a_description_says_nothing(text: str) -> None:
    assert read_said(text) == Said()


DOCUMENT = {
    "class": "Docs",
    "properties": [
        {
            "name": "title",
            "dataType": ["text"],
            "tokenization": "field",
            "indexFilterable": True,
        },
        {"name": "author", "dataType": ["Person"]},
        {"name": "phone", "dataType": ["phoneNumber"]},
        {"name": "rest", "dataType": ["text"], "description": REST},
        {"name": "own", "dataType": ["text"]},
    ],
    "vectorConfig": {"default": {"vectorIndexConfig": {"distance": "dot"}}},
}


def kept(payload: str = "", **more: Any) -> Class:
    return read_class({**DOCUMENT, **more}, WeaviateOptions(payload=payload))


def test_references_and_what_the_server_computes_are_nothing_of_a_point() -> None:
    assert kept().left == ("author", "phone")
    assert list(kept().properties) == ["title", "own"]


def test_the_property_of_other_fields_is_ours_or_the_one_that_the_options_name() -> None:
    assert kept().rest == "rest"
    chosen = kept("own")
    assert (chosen.rest, list(chosen.properties)) == ("own", ["title", "rest"])


def test_a_vector_that_is_called_default_and_alone_has_no_name() -> None:
    assert {name: each.wire for name, each in kept().vectors.items()} == {"": "default"}
    two = {"default": {}, "other": {"vectorIndexConfig": {"multivector": {"enabled": True}}}}
    vectors = kept(vectorConfig=two).vectors
    assert {name: each.kind for name, each in vectors.items()} == {
        "default": VectorKind.DENSE,
        "other": VectorKind.MULTI,
    }
    old = kept(vectorConfig=None, vectorIndexType="hnsw", vectorIndexConfig={})
    assert {name: each.wire for name, each in old.vectors.items()} == {"": None}


def test_what_no_property_holds_is_json_or_rejected_by_name() -> None:
    point = Point(NIL, {}, {"title": 5, "own": "x", "Other": None, "n": 1 << 60})
    made = object_of(point, kept())
    fields = {e.key: e.value.string_value for e in made.properties.non_ref_properties.fields}
    assert fields["own"] == "x"
    assert msgspec.json.decode(fields["rest"]) == {"title": 5, "Other": None, "n": 1 << 60}
    closed = msgspec.structs.replace(kept(), rest=None)
    for name, code in (("title", "field-invalid"), ("n", "field-unknown")):
        with pytest.raises(Rejected, match=f"payload.{name}") as caught:
            object_of(Point(NIL, {}, {name: 5}), closed)
        assert caught.value.code == code
    # A null is a property that is not there.
    object_of(Point(NIL, {}, {"n": None}), closed)


def test_a_text_that_is_no_unicode_is_rejected() -> None:
    for payload in ({"own": "\ud800"}, {"x": "\ud800"}):
        with pytest.raises(Rejected):
            object_of(Point(NIL, {}, payload), kept())


WANTED = CollectionSchema(
    name="Docs",
    vectors={
        "": VectorSchema(
            size=3,
            distance=Distance.EUCLID,
            index=VectorIndex(
                kind=IndexKind.HNSW, m=9, quantization=Quantization.SCALAR, lists=7
            ),
        )
    },
    ids=IdKinds.UUID,
    indexes={"k": "keyword", "t": "text", "n": "integer", "place": "geo", "Big": "integer"},
)


def test_a_class_for_another_kind_has_a_property_for_each_index_that_it_can_have() -> None:
    planned = plan(WANTED, WeaviateOptions(properties={"when": "date"}))
    assert planned.indexes == {"k": "keyword", "t": "text", "n": "integer", "when": "datetime"}
    assert planned.vectors is not None
    assert planned.vectors[""].index == VectorIndex(
        kind=IndexKind.HNSW, m=9, quantization=Quantization.SCALAR, quantization_bits=8
    )
    assert plan(planned, WeaviateOptions()) == planned
    document = creation(planned, WeaviateOptions())
    types = {each["name"]: each["dataType"] for each in document["properties"]}
    assert types == {
        "k": ["text"],
        "t": ["text"],
        "n": ["int"],
        "when": ["date"],
        "payload": ["text"],
    }
    [index] = [each["vectorIndexConfig"] for each in document["vectorConfig"].values()]
    assert index == {"maxConnections": 9, "sq": {"enabled": True}, "distance": "l2-squared"}
    assert read_said(document["description"]) == Said(made=True, sizes={"": 3})


def test_a_field_called_payload_keeps_its_name() -> None:
    wanted = msgspec.structs.replace(WANTED, indexes={"payload": "keyword"})
    made = read_class(
        creation(plan(wanted, WeaviateOptions()), WeaviateOptions()), WeaviateOptions()
    )
    assert (made.rest, list(made.properties)) == ("payload_json", ["payload"])


@pytest.mark.parametrize("field", ["Title", "a b", "1a", "id", "_additional", "", "a" * 232])
def test_a_field_whose_name_the_server_would_change_is_no_property(field: str) -> None:
    assert not can_be(field)
    with pytest.raises(Refused, match="properties"):
        plan(WANTED, WeaviateOptions(properties={field: "text"}))


@pytest.mark.parametrize("names", [["v-1"], ["", "b"], ["default"]])
def test_a_vector_that_no_class_can_call_so_is_refused(names: list[str]) -> None:
    with pytest.raises(Refused, match=r"transform\.vectors"):
        named(dict.fromkeys(names, VectorSchema()))


@pytest.mark.parametrize(
    ("name", "why"),
    [("docs", "'Docs'"), ("Docs-1", "no name"), ("", "no name"), ("D" * 256, "no name")],
)
def test_a_name_that_no_class_can_have_is_told_with_the_likely_one(name: str, why: str) -> None:
    assert why in (WeaviateSettings().unfit(name) or "")


def test_two_spellings_of_a_place_are_one() -> None:
    one, other = WeaviateSettings(url="http://127.0.0.1:8080/"), WeaviateSettings()
    assert one.address() == other.address() == "localhost:8080"
    assert WeaviateSettings(url="https://a.weaviate.cloud").address() == "a.weaviate.cloud:443"


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("url", WeaviateSettings(url="http://u:p@host")),
        ("grpc_url", WeaviateSettings(grpc_url="http://host:1/path")),
        ("grpc_url", WeaviateSettings(grpc_url="host")),
    ],
)
def test_settings_that_lead_nowhere_are_named(key: str, settings: WeaviateSettings) -> None:
    assert [name for name, _ in settings.problems()] == [key]


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_ranges_cover_every_uuid_once(parts: int) -> None:
    first, last = 5, (1 << 100) + 3
    found = cut(parts, first, last)
    assert len(found) == parts
    assert (found[0].after, found[-1].to) == (None, None)
    assert [each.to for each in found[:-1]] == [each.after for each in found[1:]]
    bounds = [each.to or "" for each in found[:-1]]
    assert bounds == sorted(set(bounds))


def test_ranges_of_few_uuids_are_fewer() -> None:
    assert len(cut(7, 5, 6)) == 2
    assert len(cut(200, 0, 1 << 128)) == 200
