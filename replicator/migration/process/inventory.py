"""
What the source lists beside the collections of this migration, where the configuration has
patterns: the set of a migration under way does not change, and nobody shall find out at the
switch what stayed behind.

While the application writes the source, the source is asked regularly. What came is journalled
once, and stands in the status as a warning as long as it is listed. A source that is away tells
nothing new, and others say that it is away; one that refuses to tell is a warning itself.
"""

from __future__ import annotations

import asyncio

import msgspec

from replicator.errors import ReplicatorError, Retryable
from replicator.migration.evidence.taken import in_words, left_out, listed
from replicator.migration.process.engine import Engine
from replicator.migration.process.observe import ANSWER_S
from replicator.model.finding import Blocker
from replicator.model.phase import TERMINAL, Direction
from replicator.settings.settings import Settings

LOOK_S = 60.0
"""Between two looks. Half of it asks twice as often for what hardly ever changes; twice it, and
a collection that comes shortly before a cutover may stay unseen."""

_NAME = "collections-left-out"
"""Of the document in the state that says what was journalled."""


class Inventory:
    """Of one process. Without patterns there is nothing to look for."""

    def __init__(self, engine: Engine, configured: Settings) -> None:
        """`configured`: with the patterns; the engine's settings have names in their place."""
        self._engine = engine
        self._configured = configured
        self._left_out: list[str] = []
        self._refusal: ReplicatorError | None = None

    @property
    def warnings(self) -> list[Blocker]:
        """What came and is not taken, as of the last answer; one for each collection."""
        warnings = [
            Blocker("collection-left-out", f"{name!r} came to the source, and is not taken")
            for name in self._left_out
        ]
        if self._refusal is not None:
            why = f"the source does not tell what came to it: {self._refusal.message}"
            warnings.append(Blocker(self._refusal.code, why))
        return warnings

    async def look_regularly(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Ask the source once, while the application writes it."""
        engine = self._engine
        record = engine.journal.record
        if record.direction is not Direction.FORWARD or record.phase in TERMINAL:
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                names = await listed(engine.source)
        except (Retryable, TimeoutError):
            return
        except ReplicatorError as error:
            self._refusal = error
            return
        self._refusal = None
        self._left_out = left_out(self._configured, engine.parts.settings, names)
        await self._tell()

    async def _tell(self) -> None:
        state = self._engine.parts.state
        raw = await state.get(_NAME)
        told = set(msgspec.json.decode(raw, type=list[str])) if raw is not None else set()
        new = [name for name in self._left_out if name not in told]
        if not new:
            return
        # Whoever dies in between tells it twice, and never not at all.
        await self._engine.journal.note(
            "inventory",
            f"{in_words(new)} came to the source; the migration began without",
            names=new,
        )
        await state.put(_NAME, msgspec.json.encode(sorted({*told, *new})))
