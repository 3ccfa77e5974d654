"""
Tenants, which are scopes: within one alone an id is unique.

A tenant is made by the first point that is written to it. One that is inactive answers nothing;
where its collection's options say so, it is activated for as long as somebody reads it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from replicator.connectors.weaviate.channel import Channel
from replicator.connectors.weaviate.failures import TenantGone, TenantInactive
from replicator.connectors.weaviate.messages import COLD, HOT, wire
from replicator.connectors.weaviate.rest import Rest
from replicator.errors import OutcomeUnknown, Refused, Rejected
from replicator.model.point import BareId, PointId, bare, scope_of

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_AT_ONCE = 16
"""Tenants that are asked at a time. One after the other, a hundred would take as many round
trips."""


def check_scope(scope: str) -> None:
    """Raises Rejected for a scope that no tenant can be."""
    if not _NAME.fullmatch(scope):
        raise Rejected(
            "id-invalid",
            f"no tenant of Weaviate is the scope {scope!r}: up to 64 of A-Z, a-z, 0-9, _ and -",
            "scope",
        )


def can_be(scope: str | None) -> bool:
    """Whether there can be a tenant of this name."""
    return scope is not None and _NAME.fullmatch(scope) is not None


def by_scope(ids: Iterable[PointId]) -> dict[str | None, list[BareId]]:
    """The ids of each scope; under None those that have none."""
    found: dict[str | None, list[BareId]] = {}
    for point_id in ids:
        found.setdefault(scope_of(point_id), []).append(bare(point_id))
    return found


async def all_of(calls: list[Awaitable[T]]) -> list[T]:
    """Every answer, some at a time; of several errors, one that leaves most open."""
    answers: list[T | BaseException] = []
    for begin in range(0, len(calls), _AT_ONCE):
        some = calls[begin : begin + _AT_ONCE]
        answers += await asyncio.gather(*some, return_exceptions=True)
    errors = [each for each in answers if isinstance(each, BaseException)]
    for error in sorted(errors, key=lambda error: not isinstance(error, OutcomeUnknown)):
        raise error
    return [each for each in answers if not isinstance(each, BaseException)]


class Tenants:
    """The tenants of one server's classes."""

    def __init__(self, channel: Channel, rest: Rest) -> None:
        self._channel = channel
        self._rest = rest
        self._seen: dict[str, set[str]] = {}
        self._awake: dict[tuple[str, str], int] = {}
        self._waking = asyncio.Lock()

    async def of(self, collection: str) -> dict[str, int]:
        """Those that there are, in order, and what each is doing."""
        reply = await self._channel.read(
            "TenantsGet", wire().TenantsGetRequest(collection=collection)
        )
        found = {each.name: each.activity_status for each in reply.tenants}
        self._seen[collection] = set(found)
        return dict(sorted(found.items()))

    async def inactive(self, collection: str) -> list[str]:
        """Those that answer nothing."""
        found = await self.of(collection)
        return [name for name, status in found.items() if status != HOT]

    async def make(self, collection: str, scopes: Iterable[str]) -> None:
        """Make those that are not there. One that was seen is taken to be."""
        wanted = set(scopes)
        if not wanted <= self._seen.get(collection, set()):
            await self.of(collection)
        missing = wanted - self._seen[collection]
        if missing:
            await self._rest.make_tenants(collection, sorted(missing))
            self._seen[collection] |= missing

    def forget(self, collection: str) -> None:
        """Look anew: one that was seen has gone."""
        self._seen.pop(collection, None)

    @asynccontextmanager
    async def reading(
        self, collection: str, scope: str, *, activate: bool
    ) -> AsyncIterator[None]:
        """
        While it lasts an inactive tenant is active, where that is wanted. Raises Refused of one
        that cannot be read, and TenantGone.
        """
        status = (await self.of(collection)).get(scope)
        key = (collection, scope)
        if status is None:
            raise TenantGone(scope)
        if status != COLD and key not in self._awake:
            if status != HOT:
                raise _not_active(collection, scope, "is offloaded, or on its way")
            yield
            return
        if not activate:
            raise _not_active(collection, scope, "is inactive")
        await self._wake(key)
        try:
            yield
        finally:
            await self._rest_again(key)

    async def read(
        self, collection: str, scope: str, call: Callable[[], Awaitable[T]], *, activate: bool
    ) -> T:
        """The answer of a call that reads a tenant. Raises TenantGone."""
        try:
            return await call()
        except TenantInactive:
            async with self.reading(collection, scope, activate=activate):
                return await call()

    async def _wake(self, key: tuple[str, str]) -> None:
        async with self._waking:
            if key not in self._awake:
                await self._rest.set_tenant(*key, active=True)
                self._awake[key] = 0
            self._awake[key] += 1

    async def _rest_again(self, key: tuple[str, str]) -> None:
        async with self._waking:
            self._awake[key] -= 1
            if not self._awake[key]:
                del self._awake[key]
                await self._rest.set_tenant(*key, active=False)


def _not_active(collection: str, scope: str, why: str) -> Refused:
    return Refused(
        "unsupported",
        f"the tenant {scope!r} of {collection!r} {why}, and answers nothing: activate it, or,"
        " where it is inactive, let it be activated for as long as it is read"
        " (source_options.activate = true)",
    )


def inactive_write(collection: str, details: str) -> Refused:
    """The error of a write to a tenant that is not active."""
    return Refused("unsupported", f"{collection}: {details}; activate it before it is written")
