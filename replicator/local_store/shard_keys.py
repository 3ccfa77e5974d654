"""
Which shards of a collection a request concerns.

A collection with custom sharding has a shard for each shard key, as a cluster of one node has,
and an id is unique only within one. As on a server, a read that names no key asks all of them,
and of equal ids gives one point.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from replicator.connectors.qdrant.wire import Message, wire
from replicator.local_store.answers import invalid

T = TypeVar("T")


def name_of(key: Message) -> str:
    """A `ShardKey` as messages show it; no two keys have one name."""
    match key.WhichOneof("key"):
        case "keyword":
            return f'"{key.keyword}"'
        case "number":
            return str(key.number)
        case _:
            raise invalid("Shard key is not specified")


def key_of(name: str) -> Message:
    """The `ShardKey` of a name."""
    if name.startswith('"'):
        return wire().ShardKey(keyword=name[1:-1])
    return wire().ShardKey(number=int(name))


def is_custom(create: Message) -> bool:
    """Whether a collection has shard keys."""
    custom: bool = create.sharding_method == wire().enum("ShardingMethod")["Custom"]
    return custom


def written(request: Message, create: Message, there: Collection[str]) -> list[str]:
    """The names of the shards that an operation writes: "" is that of automatic sharding."""
    named = _named(request)
    if not named and not is_custom(create):
        return [""]
    if not named:
        raise invalid("Wrong input: Shard key not specified")
    _require(named, there, "Wrong input")
    return named


def read(request: Message, there: Collection[str]) -> list[str]:
    """The names of the shards that a request reads."""
    named = _named(request)
    _require(named, there, "Bad request")
    return named or list(there)


def once(found: Iterable[T], id_of: Callable[[T], Any]) -> list[T]:
    """Of equal ids the first."""
    points: dict[Any, T] = {}
    for point in found:
        points.setdefault(id_of(point), point)
    return list(points.values())


def _named(request: Message) -> list[str]:
    return [name_of(key) for key in request.shard_key_selector.shard_keys]


def _require(named: Iterable[str], there: Collection[str], kind: str) -> None:
    for name in named:
        if name not in there:
            raise invalid(f"{kind}: Shard key {name} not found")
