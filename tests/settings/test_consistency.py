"""Settings that fit one by one, and not together."""

from __future__ import annotations

from typing import Any

import pytest

from replicator.errors import Refused
from replicator.kinds import variants
from replicator.model.scopes import Scopes
from replicator.settings.feeds import KafkaSettings, TableSettings
from replicator.settings.fingerprint import fingerprint
from replicator.settings.load import from_toml
from replicator.settings.settings import Settings

QDRANT = {"kind": "qdrant", "url": "http://localhost:6334"}
KAFKA = {"kind": "kafka", "bootstrap_servers": "one:9092, two:9092", "topic": "t"}
CHANGELOG = {"kind": "changelog", "path": "changes.db"}
ALIAS = {"kind": "qdrant-alias", "aliases": ["live"]}


def read(**changes: Any) -> Settings:
    base = {
        "name": "articles",
        "source": QDRANT,
        "target": {"kind": "qdrant", "url": "http://localhost:6335"},
        "collections": [{"source": "a", "target": "b"}],
        "feed": KAFKA,
    }
    return from_toml(base | changes, {}, variants())


def refusal(**changes: Any) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        read(**changes)
    return caught.value.code, caught.value.message.partition(": ")[0]


def collections(*names: tuple[str, str]) -> dict[str, Any]:
    return {"collections": [{"source": s, "target": t} for s, t in names]}


def scopes(value: Any) -> dict[str, Any]:
    return {"collections": [{"source": "a", "target": "b", "scopes": value}]}


def captured(*tables: dict[str, Any]) -> dict[str, Any]:
    return {"feed": KAFKA | {"decoder": "debezium", "tables": list(tables)}}


def transform(**steps: Any) -> dict[str, Any]:
    return {"collections": [{"source": "a", "target": "b", "transform": steps}]}


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"name": ""}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"collections": []}, "collections"),
        (collections(("", "b")), "collections[0].source"),
        (collections(("a", "")), "collections[0].target"),
        (collections(("a", "b"), ("a", "c")), "collections[1].source"),
        (collections(("a", "b"), ("c", "b")), "collections[1].target"),
        ({"source": QDRANT | {"url": "localhost:6334"}}, "source.url"),
        ({"source": QDRANT | {"url": "http://"}}, "source.url"),
        ({"source": QDRANT | {"url": "http://host:99999"}}, "source.url"),
        ({"source": QDRANT | {"url": "http://a b"}}, "source.url"),
        ({"source": QDRANT | {"timeout": "0s"}}, "source.timeout"),
        ({"target": QDRANT | {"url": "http://x:1", "shard_number": 0}}, "target.shard_number"),
        ({"target": {"kind": "jsonl", "path": ""}}, "target.path"),
        ({"feed": KAFKA | {"topic": ""}}, "feed.topic"),
        ({"feed": KAFKA | {"topic": "a/b"}}, "feed.topic"),
        ({"feed": KAFKA | {"bootstrap_servers": ""}}, "feed.bootstrap_servers"),
        ({"feed": KAFKA | {"bootstrap_servers": "one:9092,two"}}, "feed.bootstrap_servers"),
        ({"feed": KAFKA | {"security_protocol": "SASL_SSL"}}, "feed.sasl_plain_username"),
        ({"feed": KAFKA | {"event_bytes_max": "65MiB"}}, "feed.event_bytes_max"),
        ({"feed": KAFKA | {"event_bytes_max": "0B"}}, "feed.event_bytes_max"),
        ({"feed": KAFKA | {"tables": [{"collection": "a"}]}}, "feed.tables"),
        (captured(), "feed.tables"),
        (captured({"collection": "b"}), "feed.tables[0].collection"),
        (captured({"collection": "a"}, {"collection": "a"}), "feed.tables[1].collection"),
        (captured({"collection": "a", "key": []}), "feed.tables[0].key"),
        (captured({"collection": "a", "vectors": {"id": ""}}), "feed.tables[0].vectors"),
        (
            captured({"collection": "a", "vectors": {"x": "", "y": ""}}),
            "feed.tables[0].vectors",
        ),
        (captured({"collection": "a", "payload": "id"}), "feed.tables[0].payload"),
        (
            captured({"collection": "a", "payload": "p", "fields": ["f"]}),
            "feed.tables[0].fields",
        ),
        (captured({"collection": "a", "payload": "p", "json": ["p"]}), "feed.tables[0].json"),
        (captured({"collection": "a", "fields": ["f", "f"]}), "feed.tables[0].fields"),
        (captured({"collection": "a", "fields": ["f"], "json": ["g"]}), "feed.tables[0].json"),
        (captured({"collection": "a", "json": ["id"]}), "feed.tables[0].json"),
        ({"feed": CHANGELOG | {"path": ""}}, "feed.path"),
        ({"feed": CHANGELOG | {"poll_interval": "0s"}}, "feed.poll_interval"),
        ({"feed": CHANGELOG, "state": {"path": "changes.db"}}, "feed.path"),
        ({"http": {"listen": "8080"}}, "http.listen"),
        ({"http": {"listen": "localhost:"}}, "http.listen"),
        ({"http": {"listen": "localhost:65536"}}, "http.listen"),
        ({"http": {"listen": "::1:8080"}}, "http.listen"),
        ({"http": {"listen": "0.0.0.0:8080"}}, "http.token"),
        ({"http": {"listen": "[::]:8080"}}, "http.token"),
        ({"stream": {"batch_records": 0}}, "stream.batch_records"),
        ({"stream": {"batch_records": 60_000}}, "stream.batch_records"),
        ({"stream": {"batch_bytes": "65MiB"}}, "stream.batch_bytes"),
        ({"stream": {"backoff_min": "31s"}}, "stream.backoff_min"),
        ({"stream": {"commit_interval": "0s"}}, "stream.commit_interval"),
        ({"stream": {"version_window": -1}}, "stream.version_window"),
        ({"backfill": {"rate_max": -0.5}}, "backfill.rate_max"),
        ({"verify": {"page_rows": 0}}, "verify.page_rows"),
        ({"cutover": {"lag_records_max": -1}}, "cutover.lag_records_max"),
        ({"cutover": {"touched_bytes_max": "0B"}}, "cutover.touched_bytes_max"),
        (
            {
                "collections": [
                    {"source": "a", "target": "b", "vectors_required": ["t", "u", "t"]}
                ]
            },
            "collections[0].vectors_required[2]",
        ),
        (scopes([]), "collections[0].scopes"),
        (scopes("a"), "collections[0].scopes"),
        (scopes(5), "collections[0].scopes"),
        (scopes(["a", ""]), "collections[0].scopes[1]"),
        (scopes(["a", 5]), "collections[0].scopes[1]"),
        (scopes(["a", "b", "a"]), "collections[0].scopes[2]"),
        (scopes("*") | captured({"collection": "a"}), "collections[0].scopes"),
        ({"log": {"level": "loud"}}, "log.level"),
        ({"log": {"format": "xml"}}, "log.format"),
        ({"cutover": {"fence": {"kind": "http", "url": "app"}}}, "cutover.fence.url"),
        ({"hooks": {"before_fence": {}}}, "hooks.before_fence"),
        ({"hooks": {"after_open": {"command": []}}}, "hooks.after_open.command"),
        ({"hooks": {"after_open": {"url": "x"}}}, "hooks.after_open.url"),
        (
            {"hooks": {"after_open": {"url": "http://x", "command": ["y"]}}},
            "hooks.after_open",
        ),
        ({"cutover": {"switch": ALIAS}}, "cutover.switch.kind"),
        (
            {"target": QDRANT, "cutover": {"switch": ALIAS | {"aliases": []}}},
            "cutover.switch.aliases",
        ),
        (
            {"target": QDRANT, "cutover": {"switch": ALIAS | {"aliases": ["b"]}}},
            "cutover.switch.aliases[0]",
        ),
        (
            {"target": QDRANT, "cutover": {"switch": ALIAS | {"aliases": ["x", "x"]}}}
            | collections(("a", "b"), ("c", "d")),
            "cutover.switch.aliases[1]",
        ),
    ],
)
def test_a_rule_that_is_broken_is_named_by_its_path(changes: dict[str, Any], path: str) -> None:
    assert refusal(**changes) == ("config-invalid", path)


def test_a_store_is_never_copied_onto_itself() -> None:
    same = {"kind": "qdrant", "url": "http://127.0.0.1:6334/"}

    assert refusal(target=same, **collections(("a", "b"), ("b", "c"))) == (
        "config-invalid",
        "collections[0].target",
    )
    files = {"kind": "jsonl", "path": "export"}
    assert refusal(source=files, target=files | {"path": "export/"}, **collections(("a", "a")))
    assert read(target=same).collections[0].target == "b"
    assert read(**collections(("a", "a"))).collections[0].target == "a"


def test_a_collection_of_files_has_the_name_of_a_file() -> None:
    files = {"kind": "jsonl", "path": "export"}

    for name in ("../up", "a\\b", "..", "a\0b"):
        assert refusal(target=files, **collections(("a", name)))[1] == "collections[0].target"
    assert read(**collections(("a/b", "../up"))).collections[0].target == "../up"


def test_loopback_needs_no_token_and_other_addresses_do() -> None:
    for listen in ("127.0.0.1:0", "localhost:8080", "[::1]:8080", "127.0.0.2:80"):
        assert read(http={"listen": listen}).http.listen == listen
    assert read(http={"listen": "0.0.0.0:8080", "token": "t"}).http.token.reveal() == "t"


def test_aliases_switch_collections_of_one_server() -> None:
    settings = read(target=QDRANT, cutover={"switch": ALIAS})

    assert settings.cutover.switch.aliases == ["live"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        ({"keep": ["x"], "drop": ["x"]}, "drop"),
        ({"drop": ["x"], "rename": {"x": "y"}}, "rename.x"),
        ({"drop": ["x"], "cast": {"x": "int"}}, "cast.x"),
        ({"keep": ["a"], "rename": {"x y": "y"}}, 'rename."x y"'),
        ({"keep": ["a"], "cast": {"x": "int"}}, "cast.x"),
        ({"rename": {"x": "z", "y": "z"}}, "rename.y"),
        ({"rename": {"x": ""}}, "rename.x"),
        ({"keep": ["x", "y"], "rename": {"x": "y"}}, "rename.x"),
        ({"rename": {"x": "y"}, "cast": {"y": "int"}}, "rename.x"),
        ({"rename": {"x": "y"}, "default": {"y": 1}}, "rename.x"),
        ({"rename": {"x": "y"}, "constant": {"y": 1}}, "constant.y"),
        ({"vectors": {"a": "v", "b": "v"}}, "vectors.b"),
    ],
)
def test_a_transform_that_contradicts_itself_is_refused(
    steps: dict[str, Any], path: str
) -> None:
    expected = ("transform-invalid", f"collections[0].transform.{path}")

    assert refusal(**transform(**steps)) == expected


@pytest.mark.parametrize(
    "steps",
    [
        {"rename": {"x": "y", "y": "x"}},
        {"keep": ["x"], "rename": {"x": "y"}},
        {"keep": ["x"], "default": {"z": 1}, "rename": {"z": "w"}},
        {"drop": ["y"], "rename": {"x": "y"}},
        {"constant": {"x": {"deep": [1, 2.5, "z", True]}}},
        {"vectors": {"": "text", "b": ""}},
        {"filter": {"must": [{"key": "a.b", "match": {"value": 1}}]}},
    ],
)
def test_a_transform_that_loses_nothing_unsaid_is_accepted(steps: dict[str, Any]) -> None:
    assert read(**transform(**steps)).collections[0].transform.rename == steps.get("rename", {})


def test_a_loss_that_there_is_not_cannot_be_accepted() -> None:
    def accepting(*codes: str) -> dict[str, Any]:
        return {"collections": [{"source": "a", "target": "b", "accept": list(codes)}]}

    assert read(**accepting("loss-hnsw")).collections[0].accept == ["loss-hnsw"]
    with pytest.raises(Refused) as caught:
        read(**accepting("loss-hnsw", "loss-strictmode"))
    assert caught.value.code == "config-invalid"
    assert caught.value.message.startswith("collections[0].accept[1]: ")
    assert "did you mean 'loss-strict-mode'" in caught.value.message


def test_all_scopes_travel_or_some_by_name() -> None:
    travelling = [
        read(**given).collections[0].travelling
        for given in (scopes("*"), scopes(["a", "b"]), collections(("a", "b")))
    ]
    assert travelling == [Scopes(), Scopes(frozenset({"a", "b"})), None]


def test_a_column_map_is_read_whole() -> None:
    table: dict[str, Any] = {
        "collection": "a",
        "schema": "public",
        "key": ["site", "path"],
        "vectors": {"embedding": ""},
        "json": ["meta"],
    }
    settings = read(**captured(table))
    assert isinstance(settings.feed, KafkaSettings)
    assert settings.feed.tables == [TableSettings(**table)]
    plain = read(**captured({"collection": "a"})).feed
    assert isinstance(plain, KafkaSettings)
    assert plain.tables[0].key == ["id"]


def test_another_decoder_or_column_map_is_another_plan() -> None:
    plans = [
        fingerprint(read()),
        fingerprint(read(**captured({"collection": "a"}))),
        fingerprint(read(**captured({"collection": "a", "vectors": {"e": ""}}))),
    ]
    assert len(set(plans)) == 3
    assert fingerprint(read(feed=KAFKA | {"decoder": "replicator"})) == plans[0]


def sharing(*tables: dict[str, Any]) -> dict[str, Any]:
    names = ("a", "b", "c")
    return {
        "collections": [
            {"source": name, "target": "all", **table}
            for name, table in zip(names, tables, strict=False)
        ]
    }


@pytest.mark.parametrize(
    ("tables", "path", "says"),
    [
        (({}, {}), "collections[1].target", "collections[0] does not say so"),
        (
            ({"ids": "mapped"}, {"ids": "keep"}),
            "collections[1].target",
            "collections[1] does not",
        ),
        (
            ({"ids": "mapped"}, {"ids": "mapped"}, {}),
            "collections[2].target",
            'one for both needs `ids = "mapped"` in each',
        ),
        (
            ({"ids": "mapped", "target_options": {"shard_number": 2}}, {"ids": "mapped"}),
            "collections[1].target_options",
            "are not those of collections[0]",
        ),
    ],
)
def test_several_sources_have_one_target_only_where_each_says_so(
    tables: Any, path: str, says: str
) -> None:
    with pytest.raises(Refused) as caught:
        read(**sharing(*tables))
    assert caught.value.message.startswith(path + ": ")
    assert says in caught.value.message


def test_tables_that_share_a_target_by_mapped_ids_are_taken() -> None:
    options = {"ids": "mapped", "target_options": {"shard_number": 2}}
    settings = read(**sharing(options, options))
    assert settings.targets == ["all"]
    assert [collection.ids for collection in settings.collections] == ["mapped"] * 2
