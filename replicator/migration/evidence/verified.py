"""The last completed full generation, and whether it still counts."""

from __future__ import annotations

import msgspec

from replicator.model.position import Positions
from replicator.model.record import EvidenceContext
from replicator.ports.state import StateStore

_NAME = "verified"


class Verified(msgspec.Struct, kw_only=True):
    """Kept as a document of the state."""

    generation: int
    at: float
    positions: Positions
    """Where the log stood when it began: later events are read from there."""
    misconfigured: int = 0
    """Settings of target collections that were neither as planned nor accepted."""
    below: list[str] = []
    """Of which collections the recall certainly lay below `verify.recall_min`."""
    context: EvidenceContext | None = None
    """What it rests on; None of one that the version before kept, which counts no more."""


async def read_verified(state: StateStore) -> Verified | None:
    """The last one; None before the first."""
    raw = await state.get(_NAME)
    return None if raw is None else msgspec.json.decode(raw, type=Verified)


async def keep_verified(state: StateStore, verified: Verified) -> None:
    """Replace the last one."""
    await state.put(_NAME, msgspec.json.encode(verified))
