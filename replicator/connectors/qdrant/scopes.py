"""
Scopes at Qdrant: the shard keys of a collection with custom sharding.

There an id is unique only within its shard key: a read that names none merges what has one id,
and a write that names none is refused. So every request that concerns points names its key.

A shard key is a number or a text, and a scope is a text. A number is written in decimal; a text
as it is, but for one that could be taken for a number, or begins with a quote: that stands in
double quotes. So two keys never have one scope, whatever their types.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Collection, Iterable, Iterator, Sequence
from typing import TypeVar

import grpc

from replicator.connectors.qdrant import failures
from replicator.connectors.qdrant.channel import Channel
from replicator.connectors.qdrant.wire import Message, wire
from replicator.errors import OutcomeUnknown, Refused, Rejected
from replicator.model.point import BareId, PointId, bare, scope_of

T = TypeVar("T")

_NUMBER = re.compile(r"0|[1-9][0-9]{0,19}")
_NUMBER_MAX = (1 << 64) - 1

NO_SHARD_KEYS = (
    "this server runs alone, and shard keys need cluster mode (QDRANT__CLUSTER__ENABLED=true);"
    ' or let all points lie together there, with target_options.sharding_method = "Auto"'
)


def read_scope(key: Message) -> str:
    """The scope that a `ShardKey` stands for."""
    if key.WhichOneof("key") == "number":
        return str(key.number)
    text: str = key.keyword
    return f'"{text}"' if _is_number(text) or text.startswith('"') else text


def write_scope(key: Message, scope: str) -> None:
    """Fill a `ShardKey`. Raises Rejected for a scope that no shard key stands for."""
    if not can_be(scope):
        raise Rejected(
            "id-invalid",
            f"no shard key is the scope {scope!r}: a text in quotes is one that reads as a"
            " number, or begins with a quote",
            "scope",
        )
    if _is_number(scope):
        key.number = int(scope)
    elif scope.startswith('"'):
        key.keyword = scope[1:-1]
    else:
        key.keyword = scope


def can_be(scope: str) -> bool:
    """Whether a shard key stands for the scope."""
    if not scope.startswith('"'):
        return bool(scope)
    text = scope[1:-1]
    return scope == f'"{text}"' and (_is_number(text) or text.startswith('"'))


def select(request: Message, scope: str | None) -> None:
    """Let a request, or an operation, concern the points of a scope."""
    if scope is not None:
        write_scope(request.shard_key_selector.shard_keys.add(), scope)


def by_scope(ids: Iterable[PointId]) -> dict[str | None, list[BareId]]:
    """The ids of each scope; under None those that have none."""
    found: dict[str | None, list[BareId]] = {}
    for point_id in ids:
        found.setdefault(scope_of(point_id), []).append(bare(point_id))
    return found


def shared(parts: int, scopes: Collection[str]) -> int:
    """Into how many chunks a scope is cut, where the whole is to be cut into so many."""
    return max(1, parts // max(1, len(scopes)))


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and int(text) <= _NUMBER_MAX


class ShardKeys:
    """The shard keys of one server's collections, and those that were seen there."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._seen: dict[str, set[str]] = {}

    async def list(self, collection: str) -> list[str]:
        """The scopes that there are, in order. Raises Refused("unsupported") before 1.16."""
        request = wire().ListShardKeysRequest(collection_name=collection)
        reply = await self._channel.read("Collections", "ListShardKeys", request)
        self._seen[collection] = {read_scope(found.key) for found in reply.shard_keys}
        return sorted(self._seen[collection])

    async def missing(self, collection: str, scopes: Collection[str]) -> set[str]:
        """Those of the scopes that are not there. One that was seen is taken to be."""
        wanted = set(scopes)
        if not wanted <= self._seen.get(collection, set()):
            await self.list(collection)
        return wanted - self._seen[collection]

    async def make(self, collection: str, scope: str) -> None:
        """Make a shard key, as the collection would have it. One that is there stays."""
        request = wire().CreateShardKeyRequest(
            collection_name=collection, timeout=self._channel.timeout_s
        )
        write_scope(request.request.shard_key, scope)
        try:
            await self._channel.call("Collections", "CreateShardKey", request)
        except grpc.aio.AioRpcError as exc:
            if failures.is_standalone(exc):
                raise Refused("unsupported", NO_SHARD_KEYS) from exc
            if not failures.is_present_scope(exc):
                error = failures.of_write(exc, self._channel.address)
                if isinstance(error, Rejected):  # no record is to blame
                    error = Refused("store-refused", error.message)
                raise error from exc
        self._seen.setdefault(collection, set()).add(scope)

    def forget(self, collection: str) -> None:
        """Look anew: one that was seen has gone."""
        self._seen.pop(collection, None)


def some(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """So many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def all_of(calls: Sequence[Awaitable[T]]) -> list[T]:
    """Every answer, once all have ended; of several errors, one that leaves most open."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    for error in sorted(errors, key=lambda error: not isinstance(error, OutcomeUnknown)):
        raise error
    return [answer for answer in answers if not isinstance(answer, BaseException)]
