"""
The demonstration, step by step: a migration as an operator would do it, over the daemon's HTTP
only, while the application goes on writing; and after each crossing the proof.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import numpy as np

from replicator.demo.application import Stats
from replicator.demo.chaos import Chaos
from replicator.demo.oplog import Image, read_operations, replay
from replicator.demo.oracle import (
    compare,
    expected_at_source,
    expected_at_target,
    read_source,
    read_target,
    recall,
)
from replicator.demo.outcome import Outcome, Proof
from replicator.demo.progress import Progress
from replicator.demo.replication import Replication
from replicator.demo.stage import Stage
from replicator.demo.stores import connect
from replicator.errors import Fatal, Refused, ReplicatorError
from replicator.model.command import Cross, Cutover, Revert, Verify
from replicator.model.phase import Direction, Phase
from replicator.model.status import Status

_BETWEEN_S = 2.0
"""How long the application works between two steps, so that each sees fresh changes."""
_ATTEMPTS_MAX = 60
_ATTEMPT_INTERVAL_S = 0.5
_QUERIES = 50


class Scenario:
    """One run on a stage that stands."""

    def __init__(
        self,
        stage: Stage,
        replication: Replication,
        chaos: Chaos,
        progress: Progress,
        outcome: Outcome,
    ) -> None:
        self._stage = stage
        self._replication = replication
        self._chaos = chaos
        self._progress = progress
        self._outcome = outcome

    async def play(self, *, revert: bool) -> None:
        """
        From the first start of the daemon to its orderly end; results go to the outcome. Raises
        the error that ended it early.
        """
        try:
            await self._play(revert=revert)
        except ReplicatorError:
            with suppress(ReplicatorError):  # the one under way says more
                self._tell(await self._stage.application.stats())
            raise

    async def _play(self, *, revert: bool) -> None:
        await self._replication.start()
        self._progress.say("the daemon is started: copy, replay, stream")
        await self._chaos.during_copy(self._stage.points)
        await self._replication.until(_streams_without_lag, "streaming without lag")
        self._progress.say("the copy is done and every event since is replayed")
        await self._chaos.while_streaming()

        await self._verify()
        await self._cross(Direction.REVERSE)
        await asyncio.sleep(_BETWEEN_S)
        await self._chaos.while_streaming()
        await self._verify()
        await self._prove("cutover")
        if revert:
            await asyncio.sleep(_BETWEEN_S)
            await self._cross(Direction.FORWARD)
            await asyncio.sleep(_BETWEEN_S)
            await self._verify()
            await self._prove("revert")
        await self._end()

    async def _verify(self) -> None:
        await self._replication.until(_streams_without_lag, "streaming without lag")
        report = await self._replication.control.do(Verify(level="full"))
        found = f"{report.missing} missing, {report.extra} extra, {report.different} different"
        self._progress.say(
            f"verified under writes, {report.compared} keys read in both stores: {found}"
        )
        if not report.equal:
            raise Fatal("internal", f"verification found {found}")

    async def _cross(self, towards: Direction) -> None:
        """Cut over or revert. A closed gate is asked again: lag comes and goes."""
        command = Cutover(yes=True) if towards is Direction.REVERSE else Revert(yes=True)
        operation = command.name
        for after_s in self._chaos.crossings():
            if (await self._settled()).direction is towards:
                break
            attempt = asyncio.create_task(self._attempt(command), name=operation)
            await self._chaos.cross(after_s, f"a {operation}")
            # Whatever the client of a killed daemon was told, the status decides.
            await asyncio.gather(attempt, return_exceptions=True)

        reason = ""
        for _ in range(_ATTEMPTS_MAX):
            if (await self._settled()).direction is towards:
                break
            try:
                await self._attempt(command)
            except Refused as refused:
                reason = refused.message
                await asyncio.sleep(_ATTEMPT_INTERVAL_S)
        else:
            raise Fatal("internal", f"{operation} was refused each time, at last: {reason}")
        store = "target" if towards is Direction.REVERSE else "source"
        self._progress.say(f"{operation}: the application writes to the {store}")

    async def _attempt(self, command: Cross) -> None:
        await self._replication.control.do(command)

    async def _settled(self) -> Status:
        return await self._replication.until(
            lambda status: status.phase is Phase.STREAMING, "streaming"
        )

    async def _prove(self, after: str) -> None:
        """Let the application rest, wait for the last event, and compare."""
        application = self._stage.application
        stats = await application.rest()
        events = sum(stats.tally.writes.values())
        await self._replication.until(
            lambda status: self._stage.has_applied(status, events), "applying all events"
        )
        images = replay(read_operations(self._stage.operations))
        source, target = connect(self._stage.source), connect(self._stage.target)
        try:
            proof = Proof(
                after=after,
                source=compare(expected_at_source(images), await read_source(source)),
                target=compare(expected_at_target(images), await read_target(target)),
                recall_at_10=await recall(source, target, _some_vectors(images), 10),
            )
        finally:
            await source.close()
            await target.close()
        self._outcome.prove(proof)
        self._progress.say(f"compared both stores with {stats.operations} operations")
        self._tell(await application.work())

    def _tell(self, stats: Stats) -> None:
        outcome, tally = self._outcome, stats.tally
        outcome.operations = stats.operations
        outcome.writes = tally.writes
        outcome.writes_at_target = tally.writes_at_target
        outcome.searches = tally.searches
        outcome.failed_requests = tally.failed_requests
        outcome.failures = tally.failures
        outcome.longest_write_pause_s = tally.longest_write_s
        outcome.longest_search_s = tally.longest_search_s
        outcome.events_applied = self._replication.applied
        outcome.kills = self._replication.kills

    async def _end(self) -> None:
        stats = await self._stage.application.stats()
        self._tell(stats)
        outcome = self._outcome
        if stats.tally.searches_empty:
            outcome.problems.append(f"{stats.tally.searches_empty} searches found nothing")
        if not stats.tally.writes_at_target:
            outcome.problems.append("nothing was written to the target")
        code = await self._replication.stop()
        if code != 0:
            outcome.problems.append(f"the daemon ended with exit code {code} after SIGTERM")
        self._progress.say("the daemon has drained and ended")


def _streams_without_lag(status: Status) -> bool:
    lag = status.lag.records
    return status.phase is Phase.STREAMING and lag is not None and lag <= 100


def _some_vectors(images: dict[int, Image]) -> list[np.typing.NDArray[np.float32]]:
    step = max(1, len(images) // _QUERIES)
    keys = sorted(images)[::step][:_QUERIES]
    return [np.frombuffer(images[key].vector, "<f4") for key in keys]
