"""Any document is a configuration or is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replicator.errors import Refused
from replicator.kinds import variants
from replicator.settings.environment import substitute
from replicator.settings.load import fingerprint, from_toml, redacted

VALID: dict[str, Any] = {
    "name": "n",
    "source": {"kind": "qdrant", "url": "http://a:1", "api_key": "${KEY:-k}"},
    "target": {"kind": "jsonl", "path": "out"},
    "collections": [
        {"source": "a", "target": "b", "transform": {"keep": ["x"], "rename": {"x": "y"}}}
    ],
    "feed": {"kind": "kafka", "bootstrap_servers": "h:1", "topic": "t", "settle": "5s"},
    "http": {"listen": "127.0.0.1:8080"},
    "stream": {"batch_bytes": "1MiB", "in_flight_max": 3},
    "cutover": {"fence": {"kind": "manual"}, "switch": {"kind": "http", "url": "http://b"}},
    "hooks": {"before_fence": {"command": ["x"], "timeout": "1s"}},
}
words = st.sampled_from(
    [
        "",
        "kind",
        "source",
        "jsonl",
        "qdrant",
        "none",
        "url",
        "path",
        "5s",
        "1MiB",
        "${X}",
        "$${",
        "é.",
    ]
) | st.text(max_size=8)
scalars = st.one_of(
    st.booleans(),
    st.integers() | st.sampled_from([10**400, -(10**20)]),
    st.floats(),
    words,
    st.just(datetime(2024, 1, 1, tzinfo=UTC)),
    st.just(date(2024, 1, 1)),
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=10,
)
unhurried = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inner: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        inner = enumerate(value)
    return [path, *(each for name, part in inner for each in places(part, (*path, name)))]


def assert_settings_or_refused(document: dict[str, Any]) -> None:
    try:
        read = from_toml(document, {"X": "x"}, variants())
    except Refused:
        return
    fingerprint(read)
    redacted(read)


@unhurried
@given(document=st.dictionaries(words, documents, max_size=5))
def test_an_arbitrary_document_is_refused(document: dict[str, Any]) -> None:
    assert_settings_or_refused(document)


@unhurried
@given(place=st.sampled_from(places(VALID)[1:]), value=documents, data=st.data())
def test_a_valid_file_with_anything_in_any_place_is_read_or_refused(
    place: tuple[Any, ...], value: Any, data: st.DataObject
) -> None:
    document = copy.deepcopy(VALID)
    parent: Any = document
    for step in place[:-1]:
        parent = parent[step]
    match data.draw(st.sampled_from(["replace", "remove", "add"])):
        case "replace":
            parent[place[-1]] = value
        case "remove":
            del parent[place[-1]]
        case _ if isinstance(parent, dict):
            parent[data.draw(words)] = value
        case _:
            parent.append(value)

    assert_settings_or_refused(document)


@given(text=st.text())
def test_text_without_references_is_left_alone(text: str) -> None:
    escaped = text.replace("${", "$${")

    assert substitute(escaped, {}) == escaped.replace("$${", "${")
