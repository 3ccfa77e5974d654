"""The steps of one attempt, as journal, hooks and status show them."""

from __future__ import annotations

from typing import Protocol

from replicator.errors import ReplicatorError
from replicator.migration.evidence.journal import Journal
from replicator.model.phase import Direction
from replicator.model.status import FenceStatus


class StepHooks(Protocol):
    """What `traffic.hooks` offers."""

    async def run(self, step: str, direction: Direction) -> None:
        """Run the hook of a step, if there is one. Raises Refused("hook-failed")."""
        ...


class Steps:
    """Of one attempt."""

    def __init__(self, journal: Journal, hooks: StepHooks, status: FenceStatus) -> None:
        self.status = status
        self._journal = journal
        self._hooks = hooks

    async def begin(self, step: str, message: str) -> None:
        """A step begins."""
        self.status.step = step
        await self._journal.note(step, message)

    async def hook(self, step: str, direction: Direction) -> None:
        """Run the hook of a step. Raises Refused("hook-failed")."""
        await self._hooks.run(step, direction)

    async def show_hook(self, step: str, direction: Direction) -> None:
        """As `hook`, of a step that cannot be taken back: a failure is only told."""
        try:
            await self._hooks.run(step, direction)
        except ReplicatorError as error:
            await self._journal.note(step, f"the hook failed: {error.message}")
