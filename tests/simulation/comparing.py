"""Comparing: both stores and the dead letters against the oracle, once everything rests."""

from __future__ import annotations

import asyncio

from replicator.model.command import RetryLetters
from replicator.model.letter import DeadLetter, LetterState
from replicator.model.phase import Direction, Phase
from tests.simulation.application import Poison
from tests.simulation.asking import Asking


class Comparing(Asking):
    """Lets everything come to rest, and raises with every difference."""

    async def rest_and_compare(self) -> None:
        """
        Let the writers rest until everything is applied, and compare: before any verification
        had a chance to heal what the copy and the stream left wrong.
        """
        application = self.world.application
        await self.alone()
        if self.random.random() < 0.5:
            # What the dead process had sent may land behind what the next one writes.
            self.world.crash()
            await asyncio.sleep(self.random.random() * 0.6)
        await application.stop()
        await asyncio.sleep(self.world.plan.emit_delay_s + 1.0)
        for _ in range(600):
            record = self.record
            calm = record is not None and record.phase is Phase.STREAMING and not record.paused
            if calm and self.caught_up():
                await asyncio.sleep(self.world.plan.late_write_bound_s)
                if self.random.random() < 0.5:
                    self.world.heal()
                if self.world.application.mended:
                    await self.retry_refused()
                self.compare(Direction.FORWARD)
                break
            await asyncio.sleep(0.1)
        application.restart()
        self.world.meddler.come()

    async def equal(self) -> None:
        """Let everything come to rest, and compare both stores with the oracle."""
        world = self.world
        application = world.application
        await self.alone()
        await application.stop()
        world.quieten()
        await self.reach(Phase.STREAMING)
        if application.fenced:
            # An attempt that a crash ended: the person who closed the fence opens it.
            await self.until(lambda: not application.fenced, "the fence open")
        if application.mended:
            await self.retry_refused()
        for collection, point_id in sorted(
            application.refused | application.broken | application.unsure, key=str
        ):
            await application.rewrite(collection, point_id)
        for number in range(world.log.partitions):
            world.log.end_transaction(number)
        await self.until(self.caught_up, "lag 0")
        await asyncio.sleep(world.plan.late_write_bound_s + 0.1)
        self.compare(Direction.FORWARD)
        self.compare(Direction.REVERSE)
        await self.check_letters()

    async def retry_refused(self) -> None:
        """What the mended target refused before is healed by a retry alone."""
        record = self.record
        if record is None or record.direction is Direction.REVERSE:
            return
        for _ in range(10):
            await self.command(RetryLetters(), optional=True)
            letters = self.world.state._data.letters.values()
            if not any(
                letter.state is LetterState.OPEN and letter.code == "target-rejected"
                for letter in letters
            ):
                self.world.application.refused.clear()
                return

    def caught_up(self) -> bool:
        """Whether everything in the log is applied, as persisted."""
        positions = self.world.state._data.positions
        return all(
            positions.get(partition, -1) >= at.end
            for partition, at in self.world.log.bounds().items()
        )

    def compare(self, direction: Direction) -> None:
        """Raise with every difference of the store that is written in a direction."""
        told = self.world.differences_of(direction)
        if told:
            raise AssertionError("the stores differ from the oracle:\n  " + "\n  ".join(told))

    async def completed(self) -> None:
        """The second person has ended the reverse window: what it left must be right."""
        world = self.world
        world.meddler.go()
        process = world.process
        assert process is not None
        await asyncio.wait([process.ended], timeout=60)
        assert process.ended.done(), "the process does not end, and the migration is complete"
        assert not world.application.fenced, "the migration is complete, and writers still wait"
        await world.application.stop()
        self.compare(Direction.FORWARD)

    async def sources_equal(self) -> None:
        await self.world.application.stop()
        self.compare(Direction.REVERSE)

    async def check_letters(self) -> None:
        """Every poison record is in the dead letters, with code and path; nothing else is."""
        record = self.record
        assert record is not None
        assert record.capture is not None
        data = self.world.state._data
        by_place = {
            (int(x.partition.rpartition("/")[2]), x.offset): x
            for x in data.letters.values()
            if x.partition is not None
        }
        log = self.world.log
        for (partition, offset), poison in self.world.application.poisoned.items():
            if offset < record.capture.positions[log.name(partition)]:
                continue
            letter = by_place.get((partition, offset))
            assert letter is not None, f"poison at {partition}:{offset} is not in the letters"
            found, wanted = (letter.code, letter.path), (poison.code, poison.path)
            late = poison.late and letter.code == "epoch-stale"
            assert late or found == wanted, (
                f"poison at {partition}:{offset} is {found}, not {wanted}"
            )
            self._check_state(letter, (partition, offset), poison)
        for letter in data.letters.values():
            if letter.state is LetterState.OPEN:
                assert self.world.is_producers_fault(letter), f"a letter stayed open: {letter}"

    def _check_state(self, letter: DeadLetter, place: tuple[int, int], poison: Poison) -> None:
        """
        A later image of the key settles a letter, and nothing else but a person does. Where
        there is a filter, a later patch may be written as the source's image; and to retry a
        row that was not copied is to write the source's image.
        """
        image = self.world.application.images.get(poison.key) if poison.key else None
        healed = image is not None and image[0] == place[0] and image[1] > place[1]
        if healed:
            assert letter.state is not LetterState.OPEN, f"a later image settles {letter}"
            return
        straggler = self.world.application.stragglers.get(poison.key) if poison.key else None
        rows = any(
            other.partition is None and other.event_key == letter.event_key
            for other in self.world.state._data.letters.values()
        )
        if self.world.repaired or rows or self._filters(poison):
            return
        if straggler is None or straggler < place:
            assert letter.state is not LetterState.SETTLED, f"nobody settled {letter}"

    def _filters(self, poison: Poison) -> bool:
        return any(
            plan.settings.transform.filter is not None
            for plan in self.world.plan.collections
            if poison.key is not None and plan.source == poison.key[0]
        )
