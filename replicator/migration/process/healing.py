"""
Healing a plain copy: what its comparison found is copied anew, or deleted.

A copy of a store that somebody wrote meanwhile holds rows of different moments. The comparison
at its end names the keys; once the source is quiet, their images are fetched, and what the
source no longer has is deleted from the copy, which is ours and bears our mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from replicator.errors import Rejected
from replicator.migration.process.engine import Engine
from replicator.model.event import Key
from replicator.model.finding import Difference
from replicator.model.phase import Direction
from replicator.model.point import PointId
from replicator.model.write import Write
from replicator.ports.transform import Row
from replicator.stream.ownership import Lease, Purpose

_KEYS = 64
"""Images held at once."""


async def heal_copy(engine: Engine) -> int:
    """Mend every key with a finding; how many there were."""
    record = engine.journal.record
    with engine.ownership.lease(Direction.FORWARD, Purpose.REPAIR, record.epoch) as lease:
        return await _heal_all(engine, lease)


async def _heal_all(engine: Engine, lease: Lease) -> int:
    healed = 0
    # What is extra goes first: a stray point may lie where a missing key leads to.
    for extra in (True, False):
        after = 0
        while page := await engine.parts.state.findings(_KEYS, after):
            after = page[-1][0]
            keys = [f.key for _, f in page if (f.kind is Difference.EXTRA) == extra]
            for collection, group in groupby(keys, lambda key: key.collection):
                await _heal(engine, lease, collection, list(group))
            healed += len(keys)
    if healed:
        await engine.parts.state.clear_findings(None)
        await engine.journal.note("heal", "keys that differed were copied anew", keys=healed)
    return healed


async def _heal(engine: Engine, lease: Lease, collection: str, keys: Sequence[Key]) -> None:
    assert engine.atlas is not None, "the copy has described both stores"
    route = engine.atlas.forward[collection]
    points, unreadable = await engine.source.fetch(collection, [key.id for key in keys])
    writes: dict[PointId, Write] = {}
    of: dict[PointId, Key] = {}
    refused: list[tuple[Key, Rejected]] = [
        (key, unreadable[key.id]) for key in keys if key.id in unreadable
    ]
    items = [Row(key, points.get(key.id)) for key in keys if key.id not in unreadable]
    for item, write in zip(items, await route.writes(items, lease), strict=True):
        if isinstance(write, Rejected):
            refused.append((item.key, write))
        else:
            writes[write.id], of[write.id] = write, item.key
    writer = engine.writers[Direction.FORWARD]
    written = await writer.write(lease, route.store, list(writes.values()))
    refused += [(of[place], error) for place, error in written.rejected.items()]
    if refused:
        letters = engine.letters
        await letters.keep_rows(
            [letters.of_row(key, error, None, "") for key, error in refused], lease
        )
