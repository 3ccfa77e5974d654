"""A collection of Qdrant arrives at Qdrant as it was: configuration, scores, precision."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.connectors.jsonl.store import JsonlStore
from replicator.connectors.qdrant.channel import Channel
from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.connectors.qdrant.native import write_document
from replicator.connectors.qdrant.store import QdrantStore
from replicator.connectors.qdrant.wire import wire
from replicator.errors import Refused
from replicator.migration.equality.compare import compare
from replicator.migration.preflight.routes import is_one_collection, wanted_target
from replicator.model.configuration import configuration_differences
from replicator.model.point import Point, SparseVector
from replicator.model.schema import CollectionSchema
from replicator.model.search import Query
from replicator.model.write import Upsert, WriteBatch
from replicator.settings.settings import Settings
from replicator.settings.transform import CollectionSettings
from replicator.stream.compatibility import losses
from replicator.testing.store_conformance import fresh_name

STRICT = {
    "enabled": True,
    "max_query_limit": 2000,
    "upsert_max_batchsize": 3,
    "unindexed_filtering_retrieve": False,
}
RICH: dict[str, Any] = {
    "vectors_config": {
        "params_map": {
            "map": {
                "u8": {"size": 4, "distance": "Dot", "datatype": "Uint8", "on_disk": True},
                "f16": {
                    "size": 4,
                    "distance": "Cosine",
                    "datatype": "Float16",
                    "hnsw_config": {"m": 24},
                    "quantization_config": {"binary": {"always_ram": True}},
                },
                "rows": {
                    "size": 2,
                    "distance": "Dot",
                    "multivector_config": {"comparator": "MaxSim"},
                },
            }
        }
    },
    "sparse_vectors_config": {
        "map": {"bm25": {"modifier": "Idf", "index": {"full_scan_threshold": 77}}}
    },
    "hnsw_config": {"m": 0, "payload_m": 16, "ef_construct": 123},
    "optimizers_config": {"indexing_threshold": 5_000, "default_segment_number": 3},
    "wal_config": {"wal_capacity_mb": 16},
    "quantization_config": {"scalar": {"type": "Int8", "quantile": 0.95, "always_ram": True}},
    "strict_mode_config": STRICT,
    "on_disk_payload": False,
    "shard_number": 1,
    "metadata": {"owner": "search team", "nested": {"since": 2024}},
}
INDEXES: dict[str, dict[str, Any]] = {
    "tenant": {"keyword_index_params": {"is_tenant": True, "on_disk": True}},
    "body": {
        "text_index_params": {
            "tokenizer": "Multilingual",
            "min_token_len": 2,
            "max_token_len": 20,
            "lowercase": False,
            "phrase_matching": True,
            "stopwords": {"languages": ["english"], "custom": ["foo"]},
            "stemmer": {"snowball": {"language": "english"}},
        }
    },
    "year": {"integer_index_params": {"lookup": False, "range": True, "is_principal": True}},
}


async def make(url: str, name: str, document: dict[str, Any]) -> None:
    """A collection made by somebody else."""
    channel = Channel(QdrantSettings(url=url))
    request = wire().CreateCollection(collection_name=name)
    write_document(request, document, "")
    await channel.change("Create", request)
    for field, params in INDEXES.items() if document is RICH else ():
        [kind] = params
        type_ = f"FieldType{kind.removesuffix('_index_params').capitalize()}"
        request = wire().CreateFieldIndexCollection(
            collection_name=name,
            field_name=field,
            field_type=wire().enum("FieldType")[type_],
            wait=True,
        )
        write_document(request.field_index_params, params, "")
        await channel.change("CreateFieldIndex", request, "Points")
    await channel.close()


async def described(store: QdrantStore, name: str) -> CollectionSchema:
    schema = await store.describe(name)
    assert schema is not None
    return schema


async def planned(
    store: QdrantStore, source: str, target: str, **given: Any
) -> tuple[CollectionSettings, CollectionSchema]:
    collection = CollectionSettings(source=source, target=target, **given)
    schema = await described(store, source)
    return collection, await wanted_target(collection, schema, store, capture_id="c")


def vector(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def words(**weights: float) -> SparseVector:
    numbers = {int(name[1:]): weight for name, weight in weights.items()}
    return SparseVector(
        struct.pack(f"<{len(numbers)}I", *numbers),
        struct.pack(f"<{len(numbers)}f", *numbers.values()),
    )


def points(count: int) -> list[Point]:
    chance = random.Random(7)
    return [
        Point(
            number,
            {
                "u8": vector(number % 256, 1, 2, 3),
                "f16": vector(*(chance.random() for _ in range(4))),
                "bm25": words(**{"w0": 3.0, f"w{chance.randrange(1, 20)}": 1.0}),
            },
            {"tenant": f"t{number % 3}", "body": "a b", "year": number},
        )
        for number in range(count)
    ]


async def copy(store: QdrantStore, source: str, target: str) -> None:
    cursor: str | None = None
    for chunk in await store.split(source, 1):
        async for page in store.scan(chunk, cursor, 100):
            writes = tuple(Upsert(point) for point in page.points)
            await store.apply(WriteBatch(target, writes))


async def test_a_copy_has_every_setting_of_its_source(
    store: QdrantStore, qdrant_url: str
) -> None:
    source, target = fresh_name(), fresh_name()
    await make(qdrant_url, source, RICH)
    collection, plan = await planned(store, source, target)
    before = await described(store, source)
    assert losses(collection, before, plan) == []
    await store.ensure(plan)
    during = await described(store, target)
    assert during.unfinished
    assert losses(collection, before, plan, during) == []
    await store.configure(plan)
    await store.finish_bulk(target)
    after = await described(store, target)
    assert (after.made, after.unfinished) == (True, False)
    assert configuration_differences(plan, after) == []
    assert after.native == before.native
    assert after.vectors == before.vectors
    assert after.index_options == before.index_options
    assert after.indexes == before.indexes


async def test_strict_mode_and_indexing_wait_for_the_end_of_the_bulk_load(
    store: QdrantStore, qdrant_url: str
) -> None:
    source, target = fresh_name(), fresh_name()
    await make(qdrant_url, source, RICH)
    _, plan = await planned(store, source, target)
    await store.ensure(plan)
    # More points in one batch than strict mode will allow.
    await store.apply(WriteBatch(target, tuple(Upsert(point) for point in points(50))))
    during = await described(store, target)
    assert during.native["optimizer_config"]["indexing_threshold"] == 0
    assert not during.native.get("strict_mode_config", {}).get("enabled")
    await store.configure(plan)
    after = await described(store, target)
    assert after.native["optimizer_config"]["indexing_threshold"] == 5_000
    assert after.native["strict_mode_config"] == STRICT


async def test_a_collection_that_is_never_indexed_stays_so(
    store: QdrantStore, qdrant_url: str
) -> None:
    source, target = fresh_name(), fresh_name()
    await make(qdrant_url, source, {**RICH, "optimizers_config": {"indexing_threshold": 0}})
    _, plan = await planned(store, source, target)
    await store.ensure(plan)
    await store.configure(plan)
    await store.finish_bulk(target)
    after = await described(store, target)
    assert after.native["optimizer_config"]["indexing_threshold"] == 0
    assert configuration_differences(plan, after) == []


@pytest.mark.parametrize("defer", [True, False])
async def test_strict_mode_waits_in_a_wiped_collection_too(
    store: QdrantStore, qdrant_url: str, defer: bool
) -> None:
    source, target = fresh_name(), fresh_name()
    await make(qdrant_url, source, RICH)
    _, plan = await planned(store, source, target)
    eager = QdrantStore(QdrantSettings(url=qdrant_url, defer_indexing=defer))
    await eager.ensure(plan)
    await eager.configure(plan)
    await eager.wipe(target)
    await eager.ensure(plan)
    await eager.apply(WriteBatch(target, tuple(Upsert(point) for point in points(9))))
    during = await described(eager, target)
    threshold = during.native["optimizer_config"]["indexing_threshold"]
    assert threshold == (0 if defer else 5_000)
    await eager.configure(plan)
    assert configuration_differences(plan, await described(eager, target)) == []
    await eager.close()


async def test_what_waits_is_found_again_by_another_process_from_the_plan_alone(
    store: QdrantStore, qdrant_url: str
) -> None:
    source, target = fresh_name(), fresh_name()
    await make(qdrant_url, source, RICH)
    _, plan = await planned(store, source, target)
    await store.ensure(plan)
    again = QdrantStore(QdrantSettings(url=qdrant_url))
    await again.ensure(plan)
    # Only the index was restored, as an earlier release did it.
    await again.finish_bulk(target)
    assert configuration_differences(plan, await described(again, target))
    for _ in range(2):
        await again.configure(plan)
        assert configuration_differences(plan, await described(again, target)) == []
    await again.close()


async def test_a_setting_that_somebody_changes_at_the_target_is_a_difference(
    store: QdrantStore, qdrant_url: str
) -> None:
    source, target = fresh_name(), fresh_name()
    await make(qdrant_url, source, RICH)
    _, plan = await planned(store, source, target)
    await store.ensure(plan)
    await store.configure(plan)
    channel = Channel(QdrantSettings(url=qdrant_url))
    request = wire().UpdateCollection(collection_name=target)
    request.hnsw_config.ef_construct = 99
    request.strict_mode_config.max_query_limit = 5
    await channel.change("Update", request)
    await channel.close()
    found = configuration_differences(plan, await described(store, target))
    assert {(each.code, each.setting, each.blocks) for each in found} == {
        ("loss-hnsw", "hnsw_config.ef_construct", True),
        ("loss-strict-mode", "strict_mode_config.max_query_limit", True),
    }


async def test_a_collection_that_a_person_made_is_left_as_it_is(
    store: QdrantStore, qdrant_url: str
) -> None:
    source, target = fresh_name(), fresh_name()
    await make(qdrant_url, source, RICH)
    theirs = {**RICH, "hnsw_config": {"m": 8}, "strict_mode_config": {"enabled": False}}
    await make(qdrant_url, target, theirs)
    _, plan = await planned(store, source, target)
    before = await described(store, target)
    await store.ensure(plan)
    await store.configure(plan)
    after = await described(store, target)
    assert after.native == before.native
    assert after.vectors == before.vectors


async def test_scores_with_idf_are_equal_on_both_sides(
    store: QdrantStore, qdrant_url: str
) -> None:
    source, target = fresh_name(), fresh_name()
    free = {**RICH, "strict_mode_config": {"enabled": False}}
    await make(qdrant_url, source, free)
    await store.apply(WriteBatch(source, tuple(Upsert(point) for point in points(300))))
    _, plan = await planned(store, source, target)
    await store.ensure(plan)
    await copy(store, source, target)
    await store.configure(plan)
    await store.finish_bulk(target)
    for query in (words(w0=1.0, w7=1.0), words(w3=1.0), words(w1=2.0, w2=1.0)):
        asked = Query(vector=query, using="bm25", limit=10)
        ours = [hit.score for hit in await store.search(source, asked)]
        theirs = [hit.score for hit in await store.search(target, asked)]
        assert ours == pytest.approx(theirs)
        assert ours
    # The modifier is what makes them so: without it the scores are others.
    plain, bare = fresh_name(), {**free, "sparse_vectors_config": {"map": {"bm25": {}}}}
    await make(qdrant_url, plain, bare)
    await copy(store, source, plain)
    asked = Query(vector=words(w0=1.0, w7=1.0), using="bm25", limit=10)
    other = [hit.score for hit in await store.search(plain, asked)]
    assert [hit.score for hit in await store.search(source, asked)] != pytest.approx(other)


@pytest.mark.parametrize("datatype", ["Float16", "Uint8"])
@pytest.mark.parametrize("distance", ["Dot", "Cosine"])
async def test_a_coarser_target_compares_equal_within_its_precision_and_no_further(
    store: QdrantStore, qdrant_url: str, datatype: str, distance: str
) -> None:
    target = fresh_name()
    params = {"size": 8, "distance": distance, "datatype": datatype}
    await make(qdrant_url, target, {"vectors_config": {"params": params}})
    chance = random.Random(3)
    high = 255 if datatype == "Uint8" else 1
    given = [chance.uniform(0, high) for _ in range(8)]
    await store.apply(WriteBatch(target, (Upsert(Point(1, {"": vector(*given)}, {})),)))
    schema = await described(store, target)
    [held] = (await store.fetch(target, [1])).values()

    def difference(values: list[float]) -> str | None:
        wanted = Point(1, {"": vector(*values)}, {})
        return compare(wanted, held, schema, float_tolerance=1e-6, payload_tolerance=0)

    assert difference(given) is None
    assert held.vectors[""] != vector(*given)
    assert difference([given[0] + 0.02 * high, *given[1:]]) is not None


async def test_a_wiped_collection_of_ours_is_made_anew_as_the_new_plan_says(
    store: QdrantStore, qdrant_url: str
) -> None:
    source, target, alias = fresh_name(), fresh_name(), fresh_name()
    await make(qdrant_url, source, RICH)
    _, plan = await planned(store, source, target)
    await store.ensure(plan)
    await store.point_alias(alias, target)
    options = {"shard_number": 2, "vectors": {"f16": {"datatype": "float32"}}}
    _, other = await planned(store, source, target, target_options=options)
    await store.wipe(target)
    await store.ensure(other)
    await store.configure(other)
    after = await described(store, target)
    assert configuration_differences(other, after) == []
    assert after.native["shard_number"] == 2
    assert after.aliases == (alias,)


# -- aliases ----------------------------------------------------------------------------------


async def test_an_alias_is_described_as_the_collection_behind_it(store: QdrantStore) -> None:
    name, alias = fresh_name(), fresh_name()
    await store.ensure(_plain(name))
    await store.point_alias(alias, name)
    assert (await described(store, name)).physical == name
    behind = await described(store, alias)
    assert (behind.name, behind.physical, behind.aliases) == (alias, name, (alias,))
    assert await store.physical("nowhere") == "nowhere"
    await store.ensure(_plain(alias, capture_id="c"))
    assert (await described(store, name)).capture_id == "c"
    await store.wipe(alias)
    assert (await described(store, alias)).physical == name
    assert (await described(store, name)).capture_id is None


def test_one_collection_under_two_names_is_one() -> None:
    one, other = _plain("live"), _plain("b")
    behind = msgspec.structs.replace(one, physical="b")
    here = QdrantSettings(url="http://localhost:6334")
    settings = Settings(
        name="m",
        source=here,
        target=here,
        collections=[],
        feed=None,  # type: ignore[arg-type]
    )
    assert is_one_collection(settings, behind, other)
    assert not is_one_collection(settings, one, other)
    there = QdrantSettings(url="http://elsewhere:6334")
    assert not is_one_collection(msgspec.structs.replace(settings, target=there), behind, other)


def _plain(name: str, **given: Any) -> CollectionSchema:
    from tests.connectors.test_qdrant_store import wanted

    return wanted(name, **given)


async def test_points_are_counted_where_strict_mode_forbids_to_count_exactly(
    store: QdrantStore, qdrant_url: str
) -> None:
    name = fresh_name()
    strict = {"enabled": True, "search_allow_exact": False}
    params = {"size": 2, "distance": "Dot"}
    await make(
        qdrant_url,
        name,
        {"vectors_config": {"params": params}, "strict_mode_config": strict},
    )
    assert (await described(store, name)).points == 0
    written = tuple(Upsert(Point(n, {"": vector(1, n)}, {})) for n in range(5))
    await store.apply(WriteBatch(name, written))
    assert await store.count(name) == 5


async def test_an_option_that_the_server_refuses_is_refused_before_anything_is_made(
    store: QdrantStore, qdrant_url: str
) -> None:
    source = fresh_name()
    await make(qdrant_url, source, RICH)
    with pytest.raises(Refused) as caught:
        await planned(store, source, "t", target_options={"hnsw_config": {"mm": 4}})
    assert caught.value.code == "config-invalid"


# -- through files ----------------------------------------------------------------------------


async def test_a_collection_comes_back_from_a_file_with_every_setting(
    store: QdrantStore, qdrant_url: str, tmp_path: Path
) -> None:
    source, target = fresh_name(), fresh_name()
    await make(qdrant_url, source, RICH)
    files = JsonlStore(JsonlSettings(path=str(tmp_path / "export")))
    before = await described(store, source)
    collection = CollectionSettings(source=source, target=source)
    kept = await wanted_target(collection, before, files, capture_id="c")
    assert losses(collection, before, kept) == []
    await files.ensure(kept)
    held = await files.describe(source)
    assert held is not None
    assert configuration_differences(kept, held) == []
    back = CollectionSettings(source=source, target=target)
    plan = await wanted_target(back, held, store, capture_id="d")
    assert losses(back, held, plan, None) == []
    await store.ensure(plan)
    await store.configure(plan)
    after = await described(store, target)
    assert (after.native, after.vectors) == (before.native, before.vectors)
    assert (after.indexes, after.index_options) == (before.indexes, before.index_options)
    await files.close()
