"""
Mishaps: stories in which the state, the log or the process is not what it was, and the
migration has to notice before harm is done.
"""

from __future__ import annotations

import asyncio
from typing import Any

from replicator.errors import ReplicatorError
from replicator.model.command import Abort, Cutover, Pause, Resume
from replicator.model.phase import Direction, Phase
from replicator.testing.faults import Fault
from tests.simulation.process import Killed, Process
from tests.simulation.steps import Steps


class Mishaps(Steps):
    """Each leads on to a cutover, or to the end that is left."""

    async def lost_story(self) -> None:
        # Whoever loses the state after a cutover has to say where the application is.
        self.world.meddler.forbidden.add(Cutover)
        await self.early()
        if self.random.random() < 0.6:
            await self.reach(Phase.STREAMING)
        await self.linger()
        await self.alone()
        self.world.meddler.forbidden.clear()
        if self.phase is Phase.ABORTED:
            self.world.wanted.set()  # nobody remembers that it ended
        self.world.lose_state()
        self._wanted_after = 0  # attempts are counted anew
        await self.linger()
        self.world.wipe = True
        self.world.restart()
        self.world.meddler.come()
        await self.early()
        await self.crossed()

    async def grown_story(self) -> None:
        await self.early()
        await self.until(lambda: self.captured, "a capture")
        await self.forward()
        await self.until(lambda: self.captured, "a capture")
        self.world.log.grow(self.world.log.partitions + 1)
        await self.stopped("partitions-changed")
        await self.out_of_blocked()

    async def truncated_story(self) -> None:
        await self.early()
        if self.random.random() < 0.5:
            await self.reach(Phase.STREAMING)
        world = self.world
        await self.forward()
        await self.until(lambda: self.captured, "a capture")
        await self.command(Pause())
        behind: list[int] = []
        before: dict[Any, int] = {}
        for _ in range(200):
            await asyncio.sleep(1.0)
            if not self.is_paused:  # somebody else resumed it
                await self.command(Pause(), optional=True)
            positions = dict(world.state._data.positions)
            record = self.record
            if record is not None and record.paused and positions == before:
                bounds = world.log.bounds()
                behind = [
                    number
                    for number in range(world.log.partitions)
                    if positions.get(world.log.name(number), 0)
                    < bounds[world.log.name(number)].stable
                ]
                if behind:
                    break
            before = positions
        number = behind[0]
        world.faults.fire(Fault.TRUNCATED)
        world.log.truncate(number, world.log.bounds()[world.log.name(number)].stable)
        world.trace.add(world.now, "log", "truncated", number)
        # It may be blocked already, by a process that looked before it was resumed.
        await self.command(Resume(), optional=True)
        await self.stopped("log-truncated")
        await self.out_of_blocked()

    async def _early_and_crossed(self) -> None:
        await self.early()
        await self.crossed()

    async def glitch_story(self) -> None:
        """The broker answers for another topic for a while; then all is well again."""
        world = self.world
        story = asyncio.ensure_future(self._early_and_crossed())
        try:
            while not story.done():
                await asyncio.sleep(0.3)
                if self.phase is Phase.BLOCKED and (world.log.glitch or world.log.damaged):
                    await asyncio.sleep(self.random.random() * 2)
                    world.log.glitch = world.log.damaged = False
            story.result()
        finally:
            story.cancel()

    async def remade_story(self) -> None:
        """The log is deleted and made anew, while the process runs or while it is down."""
        await self.early()
        reverse = self.random.random() < 0.3
        if reverse or self.random.random() < 0.6:
            await self.settled(Direction.REVERSE if reverse else Direction.FORWARD)
        await self.alone()
        await self.until(self._has_bookmarks, "a bookmark")
        world = self.world
        world.take_log_away()
        if self.random.random() < 0.5:
            world.may_start.clear()
            world.restart()
        before: dict[Any, int] | None = None
        while before != world.state._data.positions:  # what was read before is written yet
            before = dict(world.state._data.positions)
            await asyncio.sleep(15)
        world.remake_log()
        if self.random.random() < 0.7:
            await self._grown_past()
        else:
            await asyncio.sleep(self.random.random() * 3)
        world.give_log_back()
        world.may_start.set()
        await self.stopped("log-replaced")
        read = world.state._data.positions
        assert read == before, f"read on in another log: {before} → {read}"
        await self.out_of_blocked()

    def _has_bookmarks(self) -> bool:
        return self.captured and bool(self.world.state._data.bookmarks)

    async def _grown_past(self) -> None:
        """Until the new log holds a record where the last one that we applied was."""
        marks = {(name, mark.offset) for name, mark in self.world.state._data.bookmarks.items()}
        for _ in range(3000):
            if marks & {(r.partition, r.offset) for r in self.world.log.records()}:
                return
            await asyncio.sleep(0.2)

    async def restored_story(self) -> None:
        """The state is put back to what it was before, at worst before the cutover."""
        await self.early()
        await self.settled(Direction.FORWARD)
        world = self.world
        earlier = world.copy_state()
        world.meddler.forbidden.add(Abort)  # it would be another migration's state
        world.meddler.come()
        await self.linger()
        over = self.random.random() < 0.7
        if over:
            await self.settled(Direction.REVERSE)
        else:
            world.restart()
            await self.settled(Direction.FORWARD)
        await self.linger()
        if world.shows_older(earlier):
            latest = world.put_state(earlier)
            await self.stopped("mark-newer", "epoch-ahead")
            await asyncio.sleep(self.random.random() * 5)
            if over or self.random.random() < 0.5:
                world.put_state(latest)  # it was a mistake
            self.trusts_state = True
        await self.crossed()

    async def second_story(self) -> None:
        """Another process works on a copy of the state; one of both has to stop."""
        await self.early()
        await self.settled(Direction.FORWARD)
        world = self.world
        copied = world.copy_state()
        world.second = second = Process(world, copied)
        world.two_wrote = True
        world.faults.fire(Fault.SECOND_DAEMON)
        await asyncio.sleep(self.random.random() * 10)
        self.beside = True
        for _ in range(3):
            if not world.shows_older(world.state) or self.phase is Phase.BLOCKED:
                break
            try:
                await self.prepare(Direction.REVERSE, 1)
                await self.attempt(Direction.REVERSE, 1)
            except (Killed, ReplicatorError) as error:
                world.trace.add(world.now, "told", "beside a second one", repr(error))
            else:
                raise AssertionError("cut over beside a newer process")
            await asyncio.sleep(1)
        self.beside = False
        second.kill()
        await asyncio.sleep(world.plan.late_write_bound_s)
        world.second = None
        if world.shows_older(world.state):
            world.restart()
            await self.stopped("mark-newer")
            if self.random.random() < 0.5:
                world.put_state(copied)
        self.trusts_state = True
        await self.crossed()
