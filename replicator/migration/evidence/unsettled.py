"""
Unsettled stores: where a write that was sent, and never answered, may still land.

A process that ends well says until when; the next one waits only for what is left of it. One
that was killed says nothing, and the next one waits for the whole bound.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from replicator.clock import Clock
from replicator.model.phase import Direction
from replicator.ports.state import StateStore
from replicator.stream.writing import Writer

_NAME = "unsettled"


async def keep_unsettled(
    state: StateStore, writers: Mapping[Direction, Writer], clock: Clock
) -> None:
    """Persist until when each store is unsettled, before the process calls its end clean."""
    until = {
        direction.value: clock() + writer.guard.left_s
        for direction, writer in writers.items()
        if not writer.guard.is_clear
    }
    await state.put(_NAME, msgspec.json.encode(until))


async def recall_unsettled(
    state: StateStore, writers: Mapping[Direction, Writer], clock: Clock, *, was_clean: bool
) -> None:
    """Invariant 5: the process before us may have writes on their way."""
    raw = await state.get(_NAME)
    until = {} if raw is None else msgspec.json.decode(raw, type=dict[str, float])
    for direction, writer in writers.items():
        if not was_clean:
            writer.guard.suspect()
        elif direction.value in until:
            # A clock that was set back makes it the whole bound at most.
            writer.guard.suspect(max(0.0, until[direction.value] - clock()))
