"""Every setting that the installed client knows is carried, or named as a loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from replicator.connectors.qdrant.configuration import (
    copy_collection,
    creation,
    index_creation,
    late_params,
    plan,
    update,
)
from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.connectors.qdrant.native import read_document, write_document
from replicator.connectors.qdrant.schema import read_schema
from replicator.connectors.qdrant.wire import wire
from replicator.errors import CODES, Refused
from replicator.migration.preflight.planned import keep_plans, read_plans
from replicator.model.configuration import (
    configuration_differences,
    neutral,
    settings_of,
    with_options,
)
from replicator.model.finding import Severity
from replicator.model.schema import CollectionSchema, Distance, IdKinds, Precision, VectorSchema
from replicator.model.traits import VectorRules
from replicator.settings.transform import CollectionSettings, TransformSettings
from replicator.stream.compatibility import losses
from replicator.stream.transform import FieldTransform
from replicator.testing.memory_state import MemoryStateStore

SERVER = QdrantSettings()
CUSTOM = wire().enum("ShardingMethod")["Custom"]
INDEX_KINDS = ("keyword", "integer", "float", "bool", "text", "datetime", "geo", "uuid")


def info_of(**config: Any) -> Any:
    """A collection as a server shows it: a dense vector, a sparse one, an index a kind."""
    info = wire().CollectionInfo()
    params = info.config.params
    params.shard_number, params.on_disk_payload = 1, True
    dense = params.vectors_config.params_map.map["dense"]
    dense.size, dense.distance = 4, wire().enum("Distance")["Dot"]
    params.sparse_vectors_config.map["words"].SetInParent()
    for kind in INDEX_KINDS:
        number = wire().enum("PayloadSchemaType")[kind.capitalize()]
        info.payload_schema[kind].data_type = number
    if config:
        write_document(info.config, config, "")
    return info


def planned_for(
    source: CollectionSchema, collection: CollectionSettings | None = None
) -> CollectionSchema:
    collection = collection or CollectionSettings(source="a", target="b")
    asked = FieldTransform(collection, source, source).target_schema(source)
    return plan(with_options(asked, collection.target_options), SERVER)


def lost(source: CollectionSchema, **given: Any) -> list[tuple[Severity, str]]:
    collection = CollectionSettings(source="a", target="b", **given)
    found = losses(collection, source, planned_for(source, collection))
    assert all(finding.code in CODES for finding in found)
    return [(finding.severity, finding.code) for finding in found]


# -- every field ------------------------------------------------------------------------------


def flipped(message: type, skip: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """A document for every field there is, however deep, with that field set and no other."""
    yield from _flips(message.DESCRIPTOR, skip, 5)  # type: ignore[attr-defined]


def _flips(
    descriptor: Any, skip: tuple[str, ...], depth: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    for field in descriptor.fields:
        if field.name in skip or depth == 0:
            continue
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            value = inner.fields_by_name["value"].message_type
            if value is None or value.full_name == "qdrant.Value":
                yield field.name, {field.name: {"owner": "search"}}
                continue
            for path, document in _flips(value, (), depth - 1):
                yield f"{field.name}.{path}", {field.name: {"dense": document}}
        elif inner is not None:
            yield field.name, {field.name: {}}
            for path, document in _flips(inner, (), depth - 1):
                yield f"{field.name}.{path}", {field.name: document}
        else:
            value = _flip(field)
            yield field.name, {field.name: [value] if field.is_repeated else value}


def _flip(field: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[-1].name
    kinds = {field.TYPE_BOOL: True, field.TYPE_STRING: "english"}
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return 0.25
    return kinds.get(field.type, 7)


def ids(cases: list[tuple[str, Any]]) -> list[str]:
    return [path for path, _ in cases]


COLLECTION = list(flipped(wire().CollectionConfig, skip=("params",)))
PARAMS = list(  # of the collection too, in a message of their own
    flipped(wire().CollectionParams, skip=("vectors_config", "sparse_vectors_config"))
)
DENSE = list(flipped(wire().VectorParams, skip=("size", "distance")))
SPARSE = list(flipped(wire().SparseVectorParams))
INDEXES = [
    (f"{kind}.{path}", {kind: document})
    for kind in INDEX_KINDS
    for path, document in flipped(getattr(wire(), f"{kind.capitalize()}IndexParams"))
]


def test_there_are_settings_to_flip() -> None:
    assert len(COLLECTION) > 60
    assert len(DENSE) > 25
    assert len(INDEXES) > 40


def carried_or_named(info: Any) -> None:
    source = read_schema("a", info, 0)
    planned = planned_for(source)
    asked, made = settings_of(source), settings_of(planned)
    missing = {path for path, value in asked.items() if made.get(path) != value}
    codes = lost(source)
    assert not missing
    assert not codes
    assert all(severity is Severity.BLOCKS for severity, _ in codes)
    assert plan(planned, SERVER) == planned, "a plan of a plan is the same"


@pytest.mark.parametrize(("path", "document"), COLLECTION, ids=ids(COLLECTION))
def test_every_setting_of_a_collection_is_carried(path: str, document: dict[str, Any]) -> None:
    info = info_of(**document)
    assert info != info_of()
    carried_or_named(info)


@pytest.mark.parametrize(("path", "document"), PARAMS, ids=ids(PARAMS))
def test_every_parameter_of_a_collection_is_carried_or_named(
    path: str, document: dict[str, Any]
) -> None:
    info = info_of(params=document)
    carried_or_named(info)
    planned = planned_for(read_schema("a", info, 0))
    [name] = document
    sent = [
        getattr(request, name)
        for request in (creation(planned), late_params(planned))
        if name in request.DESCRIPTOR.fields_by_name and request.HasField(name)
    ]
    assert sent == [getattr(info.config.params, name)]


@pytest.mark.parametrize(("path", "document"), DENSE, ids=ids(DENSE))
def test_every_setting_of_a_dense_vector_is_carried(
    path: str, document: dict[str, Any]
) -> None:
    info = info_of()
    vector = info.config.params.vectors_config.params_map.map["dense"]
    write_document(vector, document, "")
    carried_or_named(info)
    request = creation(planned_for(read_schema("a", info, 0)))
    assert request.vectors_config.params_map.map["dense"] == vector


@pytest.mark.parametrize(("path", "document"), SPARSE, ids=ids(SPARSE))
def test_every_setting_of_a_sparse_vector_is_carried(
    path: str, document: dict[str, Any]
) -> None:
    info = info_of()
    vector = info.config.params.sparse_vectors_config.map["words"]
    write_document(vector, document, "")
    carried_or_named(info)
    request = creation(planned_for(read_schema("a", info, 0)))
    assert request.sparse_vectors_config.map["words"] == vector


@pytest.mark.parametrize(("path", "document"), INDEXES, ids=ids(INDEXES))
def test_every_parameter_of_a_payload_index_is_carried(
    path: str, document: dict[str, Any]
) -> None:
    info = info_of()
    [(kind, options)] = document.items()
    params = getattr(info.payload_schema[kind].params, f"{kind}_index_params")
    write_document(params, options, "")
    carried_or_named(info)
    request = index_creation(planned_for(read_schema("a", info, 0)), kind, 0)
    assert request.field_index_params == info.payload_schema[kind].params


@pytest.mark.parametrize(
    "message", ["CollectionConfig", "CollectionParams", "VectorParams", "SparseVectorParams"]
)
def test_every_setting_has_a_code_of_its_own(message: str) -> None:
    from replicator.losses import loss_code

    for field in getattr(wire(), message).DESCRIPTOR.fields:
        if field.name not in ("params", "vectors_config", "sparse_vectors_config", "size"):
            code = "loss-precision" if field.name == "datatype" else loss_code(field.name)
            assert code != "loss-setting", field.name


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_every_parameter_of_an_index_has_a_code_of_its_own(kind: str) -> None:
    from replicator.losses import loss_code

    for field in getattr(wire(), f"{kind.capitalize()}IndexParams").DESCRIPTOR.fields:
        assert loss_code(field.name, "index") != "loss-setting", field.name


# -- what cannot be carried -------------------------------------------------------------------


def test_shard_keys_travel_unless_a_person_lets_all_points_lie_together() -> None:
    source = read_schema("a", info_of(params={"sharding_method": "Custom"}), 0)
    assert source.scoped
    assert planned_for(source).scoped
    assert creation(planned_for(source)).sharding_method == CUSTOM
    options = {"sharding_method": "Auto"}
    together = planned_for(
        source, CollectionSettings(source="a", target="b", target_options=options)
    )
    assert not together.scoped
    assert creation(together).sharding_method != CUSTOM
    assert plan(together, SERVER) == together


def test_scopes_of_another_kind_of_store_become_shard_keys() -> None:
    source = read_schema("a", info_of(), 0)
    tenants = msgspec.structs.replace(source, native_kind=None, native={}, scoped=True)
    assert creation(planned_for(tenants)).sharding_method == CUSTOM
    assert not creation(planned_for(source)).HasField("sharding_method")


def test_a_setting_that_only_the_server_knows_is_a_loss_and_not_dropped() -> None:
    info = info_of()
    info.config.hnsw_config.MergeFromString(b"\xf8\x3f\x01")  # field 1023
    info.payload_schema["text"].params.text_index_params.MergeFromString(b"\xf8\x3f\x01")
    source = read_schema("a", info, 0)
    assert source.native["unnamed_fields"] == [
        "HnswConfigDiff, field 1023",
        "TextIndexParams, field 1023",
    ]
    assert lost(source) == [(Severity.BLOCKS, "loss-setting")]


def test_a_store_of_another_kind_loses_what_changes_answers_by_name() -> None:
    info = info_of(hnsw_config={"m": 9, "full_scan_threshold": 7})
    info.config.params.sparse_vectors_config.map["words"].modifier = 1
    source = read_schema("a", info, 0)
    collection = CollectionSettings(source="a", target="b")
    there = FieldTransform(collection, source, source).target_schema(source)
    found = {
        f.code: f.severity for f in losses(collection, source, neutral(there, VectorRules()))
    }
    assert found["loss-modifier"] is Severity.BLOCKS
    assert found["loss-hnsw"] is Severity.INFORMS
    assert found["loss-vector-index-m"] is Severity.INFORMS


# -- renames and wishes -----------------------------------------------------------------------


def test_settings_follow_their_vector_and_field_under_the_new_name() -> None:
    strict = {
        "enabled": True,
        "sparse_config": {"sparse_config": {"words": {"max_length": 5}}},
    }
    info = info_of(strict_mode_config=strict)
    info.config.params.sparse_vectors_config.map["words"].modifier = 1
    info.payload_schema["text"].params.text_index_params.lowercase = False
    source = read_schema("a", info, 0)
    steps = TransformSettings(
        vectors={"words": "bm25", "dense": "d"}, rename={"text": "body"}, cast={"uuid": "str"}
    )
    planned = planned_for(source, CollectionSettings(source="a", target="b", transform=steps))
    request = creation(planned)
    assert request.sparse_vectors_config.map["bm25"].modifier == 1
    limits = request.strict_mode_config.sparse_config.sparse_config
    assert {name: limit.max_length for name, limit in limits.items()} == {"bm25": 5}
    assert planned.index_options == {"body": {"lowercase": False, "tokenizer": "Unknown"}}
    assert planned.indexes["uuid"] == "keyword"


def test_what_a_person_chose_is_no_loss() -> None:
    info = info_of(quantization_config={"scalar": {"type": "Int8", "quantile": 0.5}})
    info.config.params.shard_number = 2
    source = read_schema("a", info, 0)
    options = {
        "shard_number": 6,
        "quantization_config": False,
        "vectors": {"dense": {"datatype": "float16", "distance": "cosine", "on_disk": True}},
        "indexes": {"keyword": {"is_tenant": True}, "new": {"type": "integer"}},
    }
    assert lost(source, target_options=options) == []
    collection = CollectionSettings(source="a", target="b", target_options=options)
    request = creation(planned_for(source, collection))
    assert request.shard_number == 6
    assert not request.HasField("quantization_config")
    vector = request.vectors_config.params_map.map["dense"]
    assert (vector.datatype, vector.distance, vector.on_disk) == (
        wire().enum("Datatype")["Float16"],
        wire().enum("Distance")["Cosine"],
        True,
    )
    planned = planned_for(source, collection)
    assert planned.index_options["keyword"] == {"is_tenant": True}
    assert planned.indexes["new"] == "integer"


def test_the_settings_of_the_store_are_wishes_too_and_options_come_first() -> None:
    source = read_schema("a", info_of(), 0)
    server = QdrantSettings(shard_number=3, replication_factor=2)
    asked = FieldTransform(
        CollectionSettings(source="a", target="b"), source, source
    ).target_schema(source)
    assert plan(asked, server).native["shard_number"] == 3
    chosen = plan(with_options(asked, {"shard_number": 5}), server)
    assert (chosen.native["shard_number"], chosen.native["replication_factor"]) == (5, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shard_numbr": 2}, "did you mean 'shard_number'"),
        ({"hnsw_config": {"mm": 2}}, "hnsw_config.mm is no setting .* did you mean 'm'"),
        ({"hnsw_config": 2}, "hnsw_config is a table"),
        ({"shard_number": "two"}, "shard_number does not take 'two'"),
        ({"on_disk_payload": 1}, "on_disk_payload does not take 1"),
        ({"vectors": {"dens": {}}}, "is no vector"),
        ({"vectors": {"dense": {"size": 3}}}, "is the data's"),
        ({"vectors": {"dense": {"datatype": "float8"}}}, "is one of float32"),
        ({"vectors": {"dense": {"on_dsk": True}}}, "did you mean 'on_disk'"),
        ({"indexes": {"new": {"on_disk": True}}}, "give its `type`"),
        ({"indexes": {"text": {"tokeniser": "Word"}}}, "did you mean 'tokenizer'"),
        ({"sharding_method": "Sideways"}, "is one of Auto, Custom"),
        ({"sharding_method": "custom"}, "points come without their shard keys"),
    ],
)
def test_an_option_that_there_is_not_is_named_with_the_nearest(
    options: dict[str, Any], words: str
) -> None:
    source = read_schema("a", info_of(), 0)
    collection = CollectionSettings(source="a", target="b", target_options=options)
    with pytest.raises(Refused, match=words) as caught:
        planned_for(source, collection)
    assert caught.value.code == "config-invalid"


# -- an existing target -----------------------------------------------------------------------


def existing(info: Any) -> CollectionSchema:
    return read_schema("b", info, 0)


def found_at(target: CollectionSchema, source: Any = None) -> list[tuple[str, bool]]:
    wanted = planned_for(read_schema("a", source or info_of(), 0))
    return [(each.code, each.blocks) for each in configuration_differences(wanted, target)]


def test_a_target_that_a_person_made_blocks_only_where_answers_would_change() -> None:
    source = info_of(hnsw_config={"m": 32})
    assert found_at(existing(source), source) == []
    assert found_at(existing(info_of(hnsw_config={"m": 16})), source) == [("loss-hnsw", False)]
    assert found_at(existing(info_of(quantization_config={"binary": {}}))) == [
        ("loss-quantization", False)
    ]
    idf = info_of()
    idf.config.params.sparse_vectors_config.map["words"].modifier = 1
    assert found_at(existing(idf)) == [("loss-modifier", True)]
    assert found_at(existing(info_of()), idf) == [("loss-modifier", True)]
    cosine = info_of()
    cosine.config.params.vectors_config.params_map.map["dense"].distance = 1
    assert found_at(existing(cosine)) == [("loss-distance", True)]


def test_a_coarser_precision_is_a_loss_and_a_finer_one_is_told() -> None:
    coarse = info_of()
    vector = coarse.config.params.vectors_config.params_map.map["dense"]
    vector.datatype = wire().enum("Datatype")["Float16"]
    assert found_at(existing(coarse)) == [("loss-precision", True)]
    assert found_at(existing(info_of()), coarse) == [("loss-precision", False)]
    collection = CollectionSettings(source="a", target="b")
    source = read_schema("a", info_of(), 0)
    [finding] = losses(collection, source, planned_for(source), existing(coarse))
    assert (finding.severity, finding.code) == (Severity.BLOCKS, "loss-precision")


def test_in_a_collection_that_we_made_every_setting_is_as_planned() -> None:
    source = info_of(hnsw_config={"m": 32})
    ours = msgspec.structs.replace(existing(info_of(hnsw_config={"m": 16})), made=True)
    assert found_at(ours, source) == [("loss-hnsw", True)]
    wanted = planned_for(read_schema("a", source, 0))
    accepted = configuration_differences(wanted, ours, ["loss-hnsw"])
    assert [(each.code, each.blocks) for each in accepted] == [("loss-hnsw", False)]
    # What a server adds by itself is no difference.
    more = existing(info_of(hnsw_config={"m": 32, "ef_construct": 100}))
    assert found_at(msgspec.structs.replace(more, made=True), source) == []


def test_a_difference_in_what_we_made_warns_and_does_not_stop_a_start() -> None:
    source = read_schema("a", info_of(hnsw_config={"m": 32}), 0)
    ours = msgspec.structs.replace(existing(info_of(hnsw_config={"m": 16})), made=True)
    collection = CollectionSettings(source="a", target="b")
    [finding] = losses(collection, source, planned_for(source), ours)
    assert (finding.severity, finding.code) == (Severity.WARNS, "loss-hnsw")
    unfinished = msgspec.structs.replace(ours, unfinished=True)
    assert losses(collection, source, planned_for(source), unfinished) == []


def test_an_update_sends_what_differs_and_nothing_else() -> None:
    strict = {"enabled": True, "max_query_limit": 9}
    source = info_of(
        hnsw_config={"m": 32}, strict_mode_config=strict, params={"read_fan_out_factor": 2}
    )
    source.config.params.vectors_config.params_map.map["dense"].on_disk = True
    wanted = planned_for(read_schema("a", source, 0))
    request = update(wanted, info_of(hnsw_config={"m": 32, "ef_construct": 5}))
    assert request is not None
    said = read_document(request, skip=("collection_name",))
    assert said == {
        "params": {"read_fan_out_factor": 2},
        "strict_mode_config": strict,
        "vectors_config": {"params_map": {"map": {"dense": {"on_disk": True}}}},
    }
    assert update(wanted, source) is None


def test_what_a_creation_has_no_place_for_goes_into_an_update() -> None:
    source = info_of(params={"read_fan_out_factor": 2, "read_fan_out_delay_ms": 50})
    late = late_params(planned_for(read_schema("a", source, 0)))
    assert (late.read_fan_out_factor, late.read_fan_out_delay_ms) == (2, 50)


@pytest.mark.parametrize(("path", "document"), COLLECTION, ids=ids(COLLECTION))
def test_a_collection_that_is_wiped_keeps_every_setting(
    path: str, document: dict[str, Any]
) -> None:
    info = info_of(**document)
    again = plan(read_schema("a", info, 0), SERVER)
    request = copy_collection("a", info)
    kept = creation(again)
    kept.ClearField("on_disk_payload")
    request.ClearField("on_disk_payload")
    assert request == kept


async def test_a_plan_is_kept_as_it_was() -> None:
    state = MemoryStateStore()
    source = read_schema("a", info_of(strict_mode_config={"enabled": True}), 7)
    plans = {"b": planned_for(source)}
    await keep_plans(state, plans)
    assert await read_plans(state) == plans
    assert await read_plans(MemoryStateStore()) == {}


def test_a_schema_that_says_nothing_of_itself_gets_no_settings() -> None:
    plain = CollectionSchema(
        name="files",
        vectors={"": VectorSchema(size=2, distance=Distance.COSINE)},
        ids=IdKinds.STRING,
    )
    planned = plan(plain, SERVER)
    assert planned.native == {}
    assert planned.vectors == plain.vectors
    assert planned.ids == IdKinds.UINT64 | IdKinds.UUID
    assert plan(msgspec.structs.replace(plain, vectors=None), SERVER).vectors is None


@pytest.mark.parametrize("precision", list(Precision))
def test_every_precision_has_its_datatype(precision: Precision) -> None:
    plain = CollectionSchema(
        name="c",
        vectors={"": VectorSchema(size=2, distance=Distance.DOT, precision=precision)},
        ids=IdKinds.UINT64,
    )
    planned = plan(plain, SERVER)
    assert planned.vectors == plain.vectors
