"""
Upkeep: what keeps both stores equal while they stream. Verification, repair, and the retry of
dead letters, put together from the engine's parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing

import msgspec

from replicator.errors import Blocked, Fatal, Refused, ReplicatorError
from replicator.migration.equality.repair import Repair
from replicator.migration.equality.suspects import Suspects
from replicator.migration.equality.verify import Verification
from replicator.migration.process.engine import Engine
from replicator.migration.process.healing import heal_copy
from replicator.migration.process.operations import Operations
from replicator.model.command import Verify
from replicator.model.event import Key
from replicator.model.finding import Difference, Finding
from replicator.model.letter import DeadLetter, LetterState
from replicator.model.phase import Phase
from replicator.model.position import Positions
from replicator.model.record import MigrationRecord
from replicator.model.report import Report
from replicator.model.status import VerifyStatus
from replicator.stream.ownership import Lease, Purpose
from replicator.stream.reading import Want

_REPAIR_KEYS = 2000
"""Keys held at once by a repair: their events wait meanwhile, within the stream's buffer."""

_AGAIN_S = 60.0
"""After a regular verification that could not be done."""

_KEYS_PAGE = 500
"""Keys read at once."""


class Upkeep:
    """The commands that read both stores; they need a running stream."""

    def __init__(
        self, engine: Engine, operations: Operations, verification: VerifyStatus
    ) -> None:
        self._engine = engine
        self._parts = engine.parts
        self._operations = operations
        self._verification = verification
        self.not_ours: Callable[[Blocked], Awaitable[None]] | None = None
        """What to do when log or collections are not ours any more; set by `migration`."""

    @property
    def _record(self) -> MigrationRecord:
        return self._engine.journal.record

    async def verify(self, request: Verify) -> Report:
        """Run a verification to its end."""
        await self._stream_runs()
        return await self._operations.run("verify", lambda: self._verify(request))

    async def verify_regularly(self, verify: Callable[[], Awaitable[object]]) -> None:
        """
        A full generation whenever the last one is older than `verify.interval`. `verify` gives
        the command, by the same rules as a person's.
        """
        interval_s = self._parts.settings.verify.interval
        while True:
            last = self._verification.at
            due_s = 0.0 if last is None else last + interval_s - self._parts.clock()
            await asyncio.sleep(max(1.0, due_s))
            try:
                await verify()
            except Fatal:
                raise
            except ReplicatorError as error:
                if error.code == "cancelled":
                    # What a person has cancelled waits for its next turn.
                    await asyncio.sleep(interval_s)
                    continue
                if error.code != "phase-refused":  # not streaming, or something else is on
                    await self._engine.journal.note("verify", error.message, code=error.code)
                await asyncio.sleep(min(float(interval_s), _AGAIN_S))

    async def _verify(self, request: Verify) -> Report:
        parts, engine = self._parts, self._engine
        context = self._record.context
        try:
            await engine.identity.look_patiently()
        except Blocked as error:
            if self.not_ours is not None:
                await self.not_ours(error)
            raise
        atlas = engine.atlas or await engine.draw()
        mirror = engine.mirror()
        suspects = Suspects(
            mirror=mirror,
            stream=lambda: engine.stream,
            holds=engine.ownership.holds,
            log_end=self._log_end,
            show_after_s=max(engine.show_after_s, engine.target.staleness_s),
        )
        verification = Verification(
            source=engine.source,
            target=engine.target,
            atlas=atlas,
            collections=parts.settings.collections,
            mirror=mirror,
            suspects=suspects,
            state=parts.state,
            settings=parts.settings.verify,
            clock=parts.clock,
            progress=self._verification,
            positions=lambda: engine.committed,
            context=context,
        )
        try:
            report = await verification.run(request.level, request.queries)
        finally:
            await self.count_findings()
        await engine.recall_verified()
        await engine.journal.note(
            "verify",
            _sentence(report),
            level=report.level,
            compared=report.compared,
            missing=report.missing,
            extra=report.extra,
            different=report.different,
            hot=report.hot,
            below=report.below,
            misconfigured=report.misconfigured,
        )
        return report

    async def _log_end(self) -> Positions:
        feed = self._parts.feed
        if feed is None:
            return {}
        bounds = await self._engine.patience.until_answered(feed.bounds)
        capture = self._record.capture
        known = capture.positions if capture is not None else {}
        return {partition: at.stable for partition, at in bounds.items() if partition in known}

    async def check_plain_copy(self) -> None:
        """
        The verification that ends a plain copy; what differs is healed once. Raises when the
        stores differ then: somebody goes on writing the source.
        """
        asked = self._parts.queries
        whole = Verify(queries=None if asked is None else list(asked))
        await heal_copy(self._engine)  # what an earlier try has found
        report = await self._verify(whole)
        if not report.equal:
            await heal_copy(self._engine)
            report = await self._verify(whole)
        if report.misconfigured and not (report.missing or report.extra or report.different):
            told = "; ".join(
                f"{name}: {difference}"
                for name, found in report.configuration.items()
                for difference in found
                if difference.blocks
            )
            raise ReplicatorError(
                "target-incompatible",
                f"every key is copied and equal, but the target is not set as planned: {told}",
            )
        if not report.equal:
            raise ReplicatorError(
                "source-written",
                f"copied, but {report.missing} keys are missing, {report.extra} extra, "
                f"{report.different} different; was the source written meanwhile?",
            )

    async def count_findings(self) -> None:
        """Show how many findings are kept, and of how many keys the last verification knows
        nothing.
        """
        counts = await self._parts.state.finding_counts()
        progress = self._verification
        progress.missing = counts.get("missing", 0)
        progress.extra = counts.get("extra", 0)
        progress.different = counts.get("different", 0)
        raw = await self._parts.state.get("report")
        progress.hot = 0 if raw is None else msgspec.json.decode(raw, type=Report).hot

    async def repair(self, collection: str | None) -> int:
        """Copy keys anew: those with findings, or a whole source collection."""
        names = [c.source for c in self._parts.settings.collections]
        if collection is not None and collection not in names:
            raise Refused(
                "not-found", f"no collection {collection!r}; there are {', '.join(names)}"
            )
        await self._stream_runs()
        return await self._operations.run("repair", lambda: self._repair(collection))

    async def _repair(self, collection: str | None) -> int:
        with self._lease(Purpose.REPAIR) as lease:
            return await self._repair_under(lease, collection)

    def _lease(self, purpose: Purpose) -> Lease:
        record = self._record
        return self._engine.ownership.lease(record.direction, purpose, record.epoch)

    async def _repair_under(self, lease: Lease, collection: str | None) -> int:
        repaired, batch = 0, []
        found = self._keys_found() if collection is None else self._keys_of(collection, lease)
        async with aclosing(found) as keys:
            async for key in keys:
                batch.append(key)
                if len(batch) == _REPAIR_KEYS:
                    repaired += await self._repair_batch(lease, batch)
                    batch = []
        if batch:
            repaired += await self._repair_batch(lease, batch)
        await self.count_findings()
        await self._engine.journal.note("repair", "keys were copied anew", keys=repaired)
        return repaired

    async def _keys_found(self) -> AsyncGenerator[Key, None]:
        """
        What is extra comes first: a stray point may lie at the id that a missing key leads to,
        and is not to be deleted once that key is written.
        """
        for extra in (True, False):
            async for finding in self.findings():
                if (finding.kind is Difference.EXTRA) == extra:
                    yield finding.key

    async def _keys_of(self, collection: str, lease: Lease) -> AsyncGenerator[Key, None]:
        source, atlas = self._engine.source, self._engine.atlas
        scopes = None if atlas is None else atlas.scopes.get(collection)
        for chunk in await lease.while_held(source.split(collection, 8, scopes)):
            # What the keys hold is read again when they are held, so it is not read here.
            scan = source.scan(chunk, None, _KEYS_PAGE, want=Want.KEYS, lease=lease)
            async with aclosing(scan) as pages:
                async for page in pages:
                    keys = [Key(collection, point.id) for point in page.points]
                    del page
                    for key in keys:
                        yield key

    async def _repair_batch(self, lease: Lease, keys: Sequence[Key]) -> int:
        lease.check()
        return len(keys) - len(await self._repairer(lease).keys(keys))

    def _repairer(self, lease: Lease) -> Repair:
        engine, feed, stream = self._engine, self._parts.feed, self._engine.stream
        if feed is None or stream is None or not stream.lanes:
            raise Refused("phase-refused", "the stream rests; try again once it runs")
        return Repair(
            stream=stream,
            lease=lease,
            holds=engine.ownership.holds,
            feed=feed,
            mirror=engine.mirror(),
            state=self._parts.state,
            letters=engine.letters,
            patience=engine.patience,
            show_after_s=engine.show_after_s,
        )

    async def retry(self, numbers: Sequence[int] | None) -> dict[int, str]:
        """Replay the keys of these open letters (None: of all) from the log."""
        await self._stream_runs()
        return await self._operations.run("retry", lambda: self._retry(numbers))

    async def _retry(self, numbers: Sequence[int] | None) -> dict[int, str]:
        with self._lease(Purpose.RETRY) as lease:
            return await self._retry_under(lease, numbers)

    async def _retry_under(self, lease: Lease, numbers: Sequence[int] | None) -> dict[int, str]:
        outcomes: dict[int, str] = {}
        async for number in self._all_open() if numbers is None else _each(numbers):
            letter = await self.letter(number)
            if letter.state is not LetterState.OPEN:
                outcomes[number] = letter.state.value
            elif letter.direction is not self._record.direction:
                outcomes[number] = (
                    "it is older than the switch: the application owns that store now; discard "
                    "it"
                )
            else:
                lease.check()
                outcomes[number] = await self._repairer(lease).retry(
                    letter, self._record.epochs.moved_at
                )
        return outcomes

    async def _all_open(self) -> AsyncIterator[int]:
        after = 0
        while letters := await self._parts.state.letters(LetterState.OPEN, 1000, after):
            after = letters[-1].number
            for letter in letters:
                yield letter.number

    async def letter(self, number: int) -> DeadLetter:
        """One dead letter. Raises Refused("not-found")."""
        letter = await self._parts.state.letter(number)
        if letter is None:
            raise Refused("not-found", f"there is no dead letter {number}")
        return letter

    async def findings(self) -> AsyncIterator[Finding]:
        """Every finding that is kept."""
        after = 0
        while rows := await self._parts.state.findings(1000, after):
            after = rows[-1][0]
            for _, finding in rows:
                yield finding

    async def _stream_runs(self) -> None:
        """Raises Refused when it is not meant to run any more."""
        while self._engine.stream is None or not self._engine.stream.lanes:
            await asyncio.sleep(0.05)
            record = self._record
            if record.phase is not Phase.STREAMING or record.paused:
                raise Refused("phase-refused", "the stream was stopped meanwhile")


async def _each(numbers: Sequence[int]) -> AsyncIterator[int]:
    for number in numbers:
        yield number


def _sentence(report: Report) -> str:
    if not report.equal:
        return "the stores differ"
    if report.uncarried:
        return f"equal, but for {report.uncarried} rows in the dead letters"
    if report.hot:
        return f"equal, but for {report.hot} keys that changed at every look"
    return "both stores are equal"
