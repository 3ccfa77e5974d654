"""
The filter of a query, as either store is asked it.

A person writes it in the source's terms, and both stores are to look among the same points: the
source among those that travel, the target by the names that fields, vectors and ids have there.
What the transform changes, drops or gives to a field cannot be asked for in the source's terms;
such a query is not compared, and says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from replicator.errors import Refused
from replicator.model.filter import first_step, parse_search_filter, path_of, quoted
from replicator.model.point import PointId
from replicator.settings.transform import TransformSettings

Spec = dict[str, Any]


def both(one: Spec | None, other: Spec | None) -> Spec | None:
    """Of points that match each of the two."""
    if one is None or other is None:
        return one or other
    return {"must": [one, other]}


class Translation(msgspec.Struct, frozen=True):
    """From the source's terms to the target's, for one collection."""

    transform: TransformSettings
    nests: bool
    """Maps within the payload stay maps at the target."""
    target_id: Callable[[PointId], PointId]
    """Raises Rejected for one that has no id there."""

    def translated(self, spec: Spec | None) -> Spec | None:
        """Raises Refused("bad-request") for what cannot be asked at the target."""
        if spec is None:
            return None
        parse_search_filter(spec)
        return self._filter(spec)

    def _filter(self, spec: Spec) -> Spec:
        found: Spec = {}
        for clause, given in spec.items():
            if clause == "min_should":
                found[clause] = {**given, "conditions": self._all(given["conditions"])}
            else:
                found[clause] = self._all(given)
        return found

    def _all(self, given: Any) -> Any:
        if isinstance(given, list):
            return [self._condition(each) for each in given]
        return self._condition(given)

    def _condition(self, spec: Spec) -> Spec:
        if "key" in spec:
            return {**spec, "key": self._key(spec["key"])}
        match spec:
            case {"is_empty": {"key": key}}:
                return {"is_empty": {"key": self._key(key)}}
            case {"is_null": {"key": key}}:
                return {"is_null": {"key": self._key(key)}}
            case {"nested": {"key": key, "filter": inner}}:
                return {"nested": {"key": self._key(key, within=True), "filter": inner}}
            case {"has_id": ids}:
                return {"has_id": [self.target_id(each) for each in ids]}
            case {"has_vector": name}:
                return {"has_vector": self._vector(name)}
        return self._filter(spec)

    def _key(self, key: str, *, within: bool = False) -> str:
        """A path at the target. `within`: what is asked for lies below it."""
        path = path_of(key)
        assert path is not None, "it was parsed"
        name = str(path[0])
        steps = self.transform
        dropped = name in steps.drop or (steps.keep is not None and name not in steps.keep)
        renamed = steps.rename.get(name, name)
        if dropped or renamed in steps.constant or renamed in steps.computed:
            raise _not_asked(f"the field {name!r} does not travel")
        if name in steps.default or name in steps.cast:
            raise _not_asked(f"the transform changes the field {name!r}")
        if (within or len(path) > 1) and not self.nests:
            raise _not_asked(f"the field {name!r} is a text at the target")
        if renamed == name:
            return key
        return quoted(renamed) + key[first_step(key) :]

    def _vector(self, name: str) -> str:
        names = self.transform.vectors
        there = name if names is None else names.get(name)
        if there is None or there in self.transform.embed:
            raise _not_asked(f"the vector {name!r} does not travel")
        return there


def _not_asked(why: str) -> Refused:
    return Refused("bad-request", f"its filter cannot be put to the target: {why}")
