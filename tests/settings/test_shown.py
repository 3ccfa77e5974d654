"""Settings as others see them: redacted, and as a fingerprint."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from replicator.errors import Refused
from replicator.kinds import variants
from replicator.settings.credentials import without_credentials
from replicator.settings.load import fingerprint, from_toml, redacted

BASE: dict[str, Any] = {
    "name": "articles",
    "source": {"kind": "qdrant", "url": "http://old:6334", "api_key": "k-source"},
    "target": {"kind": "qdrant", "url": "http://new:6334", "api_key": "k-target"},
    "collections": [
        {"source": "a", "target": "b", "transform": {"rename": {"x": "y"}, "drop": ["z"]}},
        {"source": "c", "target": "d"},
    ],
    "feed": {
        "kind": "kafka",
        "bootstrap_servers": "one:9092,two:9092",
        "topic": "t",
        "sasl_plain_password": "k-kafka",
    },
    "http": {"token": "k-http"},
    "cutover": {"fence": {"kind": "http", "url": "http://me:k-url@app/f", "token": "k-fence"}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(BASE)
    part: Any = document
    *steps, last = path.split(".")
    for step in steps:
        part = part[int(step)] if step.isdigit() else part.setdefault(step, {})
    part[last] = value
    return document


def mark(document: dict[str, Any]) -> str:
    return fingerprint(from_toml(document, {}, variants()))


def test_nothing_shown_holds_a_secret() -> None:
    settings = from_toml(BASE, {}, variants())

    for shown in (json.dumps(redacted(settings)), repr(settings), str(settings)):
        for secret in ("k-source", "k-target", "k-kafka", "k-http", "k-fence"):
            assert secret not in shown
    assert "k-url" not in json.dumps(redacted(settings))


def test_what_is_shown_is_whole_and_says_which_secrets_are_set() -> None:
    shown = redacted(from_toml(BASE, {}, variants()))

    assert shown["source"]["kind"] == "qdrant"
    assert shown["source"]["api_key"] == "***"
    assert shown["feed"]["ssl_keyfile_password"] == ""
    assert shown["feed"]["settle"] == "1m"
    assert shown["stream"]["buffer_bytes"] == "64MiB"
    assert shown["collections"][0]["transform"]["rename"] == {"x": "y"}
    assert shown["cutover"]["fence"]["url"] == "http://***@app/f"


MARK = "S3cr3t"
SPY = f"https://user:{MARK}@host.example:6334/p?key={MARK}#{MARK}"

WHOLE: dict[str, Any] = BASE | {
    "cutover": {
        "fence": {"kind": "http", "url": "http://app/f"},
        "switch": {"kind": "http", "url": "http://app/s"},
    },
    "hooks": {
        "before_fence": {"command": ["./notify.sh", "--key", "abc"]},
        "after_fence": {"url": "http://app/hook"},
    },
}
FILES: dict[str, Any] = {
    "name": "files",
    "source": {"kind": "jsonl", "path": "in"},
    "target": {"kind": "qdrant"},
    "collections": [{"source": "a", "target": "b"}],
    "feed": {"kind": "changelog", "path": "c.db"},
}


def _plain(value: Any) -> Any:
    """What is shown, as a file would say it: TOML has no null."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if each is not None}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _texts(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where strings stand."""
    if isinstance(value, str):
        return [path]
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [found for name, each in items for found in _texts(each, (*path, name))]


@pytest.mark.parametrize("base", [WHOLE, FILES], ids=["servers", "files"])
def test_no_setting_shows_a_credential_wherever_it_stands(base: dict[str, Any]) -> None:
    whole = _plain(redacted(from_toml(base, {}, variants())))
    paths = _texts(whole)
    assert len(paths) > 40
    taken = 0
    for path in paths:
        document = copy.deepcopy(whole)
        part: Any = document
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = SPY
        try:
            said = json.dumps(redacted(from_toml(document, {}, variants())))
            taken += 1
        except Refused as error:
            said = error.message
        assert MARK not in said, path
    assert taken > 5


def test_the_arguments_of_a_command_are_not_shown() -> None:
    shown = redacted(from_toml(WHOLE, {}, variants()))
    assert shown["hooks"]["before_fence"]["command"] == ["./notify.sh", "***", "***"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://app/f", "http://app/f"),
        ("http://key@app/f?a=b#c", "http://***@app/f?***#***"),
        ("see postgres://u:p@h/db, then retry", "see postgres://***@h/db, then retry"),
        ("u:p@one:9092,two:9092", "***@one:9092,two:9092"),
        ("a note to me@home", "a note to me@home"),
        ("http://u:p/q@h", "http://***@h"),
    ],
)
def test_credentials_are_hidden_wherever_in_a_text_they_stand(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("source.api_key", "key\n", "line break"),
        ("target.api_key", "schl\u00fcssel", "printable ASCII"),
        ("source.api_key", " key", "space"),
        ("http.token", "a\r\nX-Evil: 1", "line break"),
        ("cutover.fence.token", "t\u00f6ken", "printable ASCII"),
        ("source.url", "http://u:p@old:6334", "use api_key"),
        ("source.url", "http://old:6334/?key=p", "path or query"),
        ("source.ca_file", "ca.pem", "https://"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_path(
    path: str, value: str, words: str
) -> None:
    document = changed(path, value)
    document["cutover"]["fence"]["url"] = "http://app/f"
    with pytest.raises(Refused) as caught:
        from_toml(document, {}, variants())
    assert caught.value.code == "config-invalid"
    assert caught.value.message.startswith(f"{path}: ")
    assert words in caught.value.message
    assert value not in caught.value.message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "other"),
        ("source.api_key", "rotated"),
        ("source.timeout", "1s"),
        ("source.url", "http://old:6334/"),
        ("target.late_write_bound", "90s"),
        ("feed.sasl_plain_password", "rotated"),
        ("feed.settle", "90s"),
        ("feed.bootstrap_servers", "two:9092, one:9092"),
        ("feed.group_id", "g"),
        ("stream.batch_records", 7),
        ("backfill.readers", 7),
        ("cutover", {}),
        ("http.listen", "127.0.0.1:1"),
        ("collections", list(reversed(BASE["collections"]))),
        ("collections.0.transform", {"drop": ["z"], "rename": {"x": "y"}}),
        ("collections.0.accept", ["loss-hnsw"]),
    ],
)
def test_what_a_running_copy_does_not_depend_on_may_change(path: str, value: Any) -> None:
    assert mark(changed(path, value)) == mark(BASE)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("source.url", "http://older:6334"),
        ("source", {"kind": "jsonl", "path": "old"}),
        ("target.url", "http://new:6335"),
        ("collections.0.source", "aa"),
        ("collections.0.target", "bb"),
        ("collections.0.ids", "keep"),
        ("collections.0.target_options", {"shard_number": 3}),
        ("collections.0.transform.drop", []),
        ("collections.0.transform.rename", {"x": "w"}),
        ("collections.0.transform.filter", {"must": []}),
        ("collections.1.transform", {"keep": []}),
        ("collections.1.transform", {"vectors": {}}),
        ("collections", BASE["collections"][:1]),
        ("feed.topic", "u"),
        ("feed.bootstrap_servers", "three:9092"),
        ("feed", {"kind": "none"}),
        ("feed", {"kind": "changelog", "path": "c.db"}),
    ],
)
def test_what_a_running_copy_depends_on_changes_the_fingerprint(path: str, value: Any) -> None:
    assert mark(changed(path, value)) != mark(BASE)


def test_a_fingerprint_is_the_same_in_every_process_and_release() -> None:
    assert mark(BASE) == "e28ba6eb1a704e99ed010e578544664d"
