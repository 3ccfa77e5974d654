"""
Evaluating filters: which points of the source belong to the migration.

A filter (`model.filter`) is evaluated here, on the source's payload, because it decides about
change events too, and an event is at no store yet. The tree becomes one function, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from replicator.codecs.keys import canonical_id
from replicator.model import filter as model
from replicator.model.point import Payload, PointId, bare
from replicator.stream.condition import payload_test, values

Passing = Callable[[PointId | None, Payload], bool]
"""Whether a point matches; within a list of maps there is no id."""


class Filter:
    """A compiled filter. Pure and immutable: one instance serves every lane."""

    def __init__(self, spec: dict[str, Any], *, uuids: bool = False) -> None:
        """
        `uuids`: the collection's texts are UUIDs, so that `has_id` takes any spelling. Raises
        Refused("transform-invalid") with the path of what is not understood.
        """
        self.tree = model.parse_filter(spec)
        self.fields = self.tree.fields
        """Top-level payload fields that decide: a patch that touches none changes nothing."""
        self._passing = compiled(self.tree, uuids=uuids)

    def matches(self, point_id: PointId, payload: Payload) -> bool:
        """Whether the point belongs to the migration. Of an id with a scope, the id alone
        decides.
        """
        return self._passing(point_id, payload)


def compiled(condition: model.Condition, *, uuids: bool = False) -> Passing:
    """The function that the tree of a migration's filter stands for."""
    match condition:
        case model.Filter():
            return _clauses(condition, uuids=uuids)
        case model.Field():
            test = payload_test(condition)
            return lambda _id, payload: test(payload)
        case model.HasId(ids):
            wanted = frozenset(canonical_id(one, uuids=uuids) for one in ids)
            return lambda point_id, _payload: (
                point_id is not None and canonical_id(bare(point_id)) in wanted
            )
        case model.Nested(path=path, filter=inner):
            return _nested(path, compiled(inner, uuids=uuids))
        case model.HasVector():
            raise AssertionError("only the filter of a search asks for vectors")


def _clauses(tree: model.Filter, *, uuids: bool) -> Passing:
    must, should, must_not, some = (
        [compiled(each, uuids=uuids) for each in conditions]
        for conditions in (
            tree.must,
            tree.should,
            tree.must_not,
            tree.some.conditions if tree.some is not None else (),
        )
    )
    least = tree.some.least if tree.some is not None else 0

    def passing(point_id: PointId | None, payload: Payload) -> bool:
        return (
            all(condition(point_id, payload) for condition in must)
            and not any(condition(point_id, payload) for condition in must_not)
            and (not should or any(condition(point_id, payload) for condition in should))
            and sum(condition(point_id, payload) for condition in some) >= least
        )

    return passing


def _nested(path: model.Path, inner: Passing) -> Passing:
    if path[-1] is not None:
        path = (*path, None)
    return lambda _id, payload: any(
        isinstance(value, dict) and inner(None, value) for value in values(payload, path)
    )
