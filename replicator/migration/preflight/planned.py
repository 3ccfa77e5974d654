"""
The plan of each target collection, as it was when the target was prepared.

Kept before anything is made (invariant 7), and read again at the end of the bulk load and by
every verification: what a target ought to look like is what was planned then, not what the
source looks like now, which people go on tuning.
"""

from __future__ import annotations

import msgspec

from replicator.model.schema import CollectionSchema
from replicator.ports.state import StateStore

_DOCUMENT = "planned"


async def keep_plans(state: StateStore, plans: dict[str, CollectionSchema]) -> None:
    """Keep the plans, by the target's word; replaces those of an earlier copy."""
    await state.put(_DOCUMENT, msgspec.json.encode(plans))


async def read_plans(state: StateStore) -> dict[str, CollectionSchema]:
    """The plans that were kept; none where an earlier release began the migration."""
    kept = await state.get(_DOCUMENT)
    if kept is None:
        return {}
    return msgspec.json.decode(kept, type=dict[str, CollectionSchema])
