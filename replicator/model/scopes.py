"""Which scopes of a collection travel: tenants, partitions, shard keys."""

from __future__ import annotations

import msgspec

from replicator.model.point import PointId, scope_of


class Scopes(msgspec.Struct, frozen=True):
    """All of them, those that are still to come too, or some by name."""

    names: frozenset[str] | None = None

    def hold(self, point_id: PointId) -> bool:
        """Whether an id lies in one of them. One without a scope, as a fan-in has, does not say
        that it lies elsewhere.
        """
        scope = scope_of(point_id)
        return scope is None or self.names is None or scope in self.names
