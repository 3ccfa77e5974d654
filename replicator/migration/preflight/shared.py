"""
Target collections to which several tables lead: what all of them ask for must be one thing.

What the target is made with is asked for by every table that names it, from the schema of its
own source. Vectors and settings must be the same; payload indexes come together, for one more
loses nobody's answers. What contradicts is refused before anything is written: whichever table
came first would decide otherwise, and the points of the others would not fit, or be found less.
"""

from __future__ import annotations

from typing import Any

import msgspec

from replicator.errors import Refused
from replicator.model.configuration import settings_of
from replicator.model.finding import CheckFinding
from replicator.model.schema import CollectionSchema
from replicator.settings.transform import CollectionSettings
from replicator.stream.compatibility import losses

_SHOWN = 5
"""Differences in one message: enough to recognise what it is about."""

Path = tuple[str, ...]


class Targets:
    """The target collections, as far as the tables have been looked at, in their order."""

    def __init__(self) -> None:
        self.plans: dict[str, CollectionSchema] = {}
        """By the target's word."""
        self._tables: list[
            tuple[CollectionSettings, CollectionSchema, CollectionSchema | None]
        ] = []
        self._behind: dict[str, str] = {}
        """Collection → by which name we know it."""

    def add(
        self,
        collection: CollectionSettings,
        source: CollectionSchema,
        planned: CollectionSchema,
        at_target: CollectionSchema | None,
    ) -> CollectionSchema:
        """
        What the table's target is to be, for it and those before it. `planned`: what the table
        alone asks for; `at_target`: what is there. Raises Refused("target-shared").
        """
        name = collection.target
        if at_target is not None:
            behind = at_target.physical or at_target.name
            other = self._behind.setdefault(behind, name)
            if other != name:
                raise Refused(
                    "target-shared",
                    f"{name!r} and {other!r} are one collection, {behind!r}: name it so in "
                    'both tables, with `ids = "mapped"`',
                )
        earlier = self.plans.get(name)
        self.plans[name] = planned if earlier is None else _joined(earlier, planned, collection)
        self._tables.append((collection, source, at_target))
        return self.plans[name]

    def losses(self) -> list[CheckFinding]:
        """What of each source's configuration its target will not have. Once every table has
        been added: what another one asks for is no stranger to a target that both share.
        """
        return [
            finding
            for collection, source, at_target in self._tables
            for finding in losses(collection, source, self.plans[collection.target], at_target)
        ]


def _joined(
    plan: CollectionSchema, other: CollectionSchema, collection: CollectionSettings
) -> CollectionSchema:
    ours, theirs = _facts(plan), _facts(other)
    alone = plan.indexes.keys() ^ other.indexes.keys()
    differing = [
        path
        for path in dict.fromkeys((*ours, *theirs))
        if ours.get(path) != theirs.get(path)
        and not (path[0] == "indexes" and path[1] in alone)
    ]
    if differing:
        shown = "; ".join(
            f"{_dotted(path)}: {ours.get(path)} and {theirs.get(path)}"
            for path in differing[:_SHOWN]
        )
        more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise Refused(
            "target-shared",
            f"{collection.source!r} asks for another collection than the tables before it that "
            f"lead to {collection.target!r}: {shown}{more}",
        )
    return msgspec.structs.replace(
        plan,
        indexes={**other.indexes, **plan.indexes},
        index_options={**other.index_options, **plan.index_options},
    )


def _facts(schema: CollectionSchema) -> dict[Path, Any]:
    """Everything in which two plans may contradict each other, each with a value."""
    facts: dict[Path, Any] = {
        ("scopes",): schema.scoped,
        ("vectors",): None if schema.vectors is None else sorted(schema.vectors),
    }
    for name, vector in (schema.vectors or {}).items():
        facts["vectors", name, "kind"] = vector.kind.value
        facts["vectors", name, "size"] = vector.size
        facts["vectors", name, "required"] = vector.required
    return facts | settings_of(schema)


def _dotted(path: Path) -> str:
    return ".".join(word or "(unnamed)" for word in path)
