"""The fingerprint of a plan: two configurations with one fingerprint make the same copy."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from replicator.settings.convert import default_of, members
from replicator.settings.feeds import ChangelogSettings, FeedSettings, KafkaSettings
from replicator.settings.settings import Settings
from replicator.settings.stores import store_address

_MAY_CHANGE = frozenset({"accept", "batch", "parallel", "rate_max", "cost"})
"""Of a collection: a person's word on what was found, and how fast a model is asked; no part of
the copy."""

_ENCODER = msgspec.json.Encoder(order="sorted")


def fingerprint(settings: Settings) -> str:
    """
    A hash of what a copy under way depends on: where the stores and the log are, and what
    becomes of each collection. Credentials, times, limits, hooks, the cutover and what is
    accepted are not in it: they may change between two starts. The order of collections and
    keys does not matter, and neither do options at their default, so that a release with a new
    one resumes old copies.
    """
    collections = [_given(each) for each in settings.collections]
    plan = {
        "source": store_address(settings.source),
        "target": store_address(settings.target),
        "collections": sorted(collections, key=_ENCODER.encode),
        "feed": _feed_identity(settings.feed),
    }
    return hashlib.sha256(_ENCODER.encode(plan)).hexdigest()[:32]


def _given(section: msgspec.Struct) -> dict[str, Any]:
    """What is set to something else than its default, sections within included."""
    given: dict[str, Any] = {}
    for name, field in members(type(section)).items():
        value = getattr(section, name)
        if name not in _MAY_CHANGE and value != default_of(field):
            given[name] = _sections(value)
    return given


def _sections(value: Any) -> Any:
    """What is given of a section, or of sections by name; any other value as it is."""
    if isinstance(value, msgspec.Struct):
        return _given(value)
    if isinstance(value, dict):
        return {name: _sections(each) for name, each in value.items()}
    return value


def _feed_identity(feed: FeedSettings) -> Any:
    match feed:
        case KafkaSettings():
            # Another broker list may be another cluster, whose offsets mean other records.
            brokers = sorted(each.strip() for each in feed.bootstrap_servers.split(","))
            return ["kafka", brokers, feed.topic, *_decoding(feed)]
        case ChangelogSettings():
            return ["changelog", feed.path, *_decoding(feed)]
        case _:
            return ["none"]


def _decoding(feed: KafkaSettings | ChangelogSettings) -> list[Any]:
    """How records are read, where it is not as ever."""
    if feed.decoder == "replicator":
        return []
    tables = [_given(table) for table in feed.tables]
    return [feed.decoder, sorted(tables, key=_ENCODER.encode)]
