"""
Identity: that log, collections and daemon are still those with which the migration began.

A name proves nothing. A collection may be wiped and made anew under its name, an alias may be
moved, a second daemon may run on a copy of this state, a state may be restored from before a
switch. What tells is kept in the record and at the target: the mark carries the capture, the
epoch and the daemon's *incarnation*, raised at every start and switch. Who meets a higher one
there than its own is not the only one, or not the newest, and stops; so does who meets a lower
one than it left there itself, for another process wrote over it.

Looked at when a stream or a copy starts, on resume, before the gate, and with every
verification.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from functools import partial

import msgspec

from replicator.errors import Blocked, Unavailable
from replicator.migration.evidence.journal import Journal
from replicator.migration.evidence.log_identity import Standing, bookmarks_before, check_log
from replicator.migration.parts import Parts
from replicator.model.phase import Direction, Phase
from replicator.model.record import MigrationRecord
from replicator.model.schema import CollectionSchema, Mark
from replicator.ports.store import AliasKeeper, StoreWriter
from replicator.settings.cutover import AliasSettings
from replicator.stream.ownership import Lease
from replicator.stream.patience import Patience
from replicator.stream.reading import Reader
from replicator.stream.writing import Writer

_UNMADE = frozenset({Phase.PLANNED, Phase.BACKFILL})
"""Phases in which the target's collections may not exist yet."""
_STEP_MAX = 1000
"""By how much a start raises the incarnation at most. It is left to chance: two processes that
begin at once on copies of one state would else count alike, and neither would stop."""


class Identity:
    """Of one process. `look` asks the stores; nothing is remembered but what was claimed."""

    def __init__(
        self,
        parts: Parts,
        journal: Journal,
        *,
        source: Reader,
        target: Reader,
        patience: Patience,
        writers: Mapping[Direction, Writer],
    ) -> None:
        self._parts = parts
        self._journal = journal
        self._source = source
        self._target = target
        self._patience = patience
        self._writers = writers
        self._claimed: int | None = None
        """The incarnation that this process left at the target."""
        self._unproven = False
        """This process has said that nothing proves the log."""

    async def look_patiently(self) -> None:
        """As `look`, however long a store is away."""
        await self._patience.until_answered(self.look)

    async def look(self) -> None:
        """Raises Blocked when something is not what it was; Retryable, Refused as stores do."""
        record = self._journal.record
        if record.capture is None:
            return
        await self.look_at_log()
        await self._aliases(record)
        for name in self._parts.settings.targets:
            found = await self._target.once.describe(name)
            if self._was_overwritten(found):
                # Or it is not shown yet.
                await asyncio.sleep(self._target.staleness_s)
                found = await self._target.once.describe(name)
            # The record as it is by now: this process may have claimed the target meanwhile.
            self._judge(self._journal.record, name, found)

    async def look_at_log(self) -> None:
        """
        Raises Blocked for another log than ours, Unavailable for one that ends before our
        position: after a failover it may do so for a moment. The observer blocks one that stays
        so.
        """
        feed, record = self._parts.feed, self._journal.record
        if feed is None or record.capture is None:
            return
        state = self._parts.state
        verdict = await check_log(
            feed,
            known=record.log,
            positions=await state.positions(),
            bookmarks=await state.bookmarks(),
        )
        match verdict.standing:
            case Standing.OTHER:
                raise Blocked("log-replaced", verdict.message)
            case Standing.BEYOND:
                raise Unavailable("feed-unavailable", verdict.message)
            case Standing.ADOPTED:
                await self._journal.update(
                    "identity",
                    f"adopted: {verdict.message}",
                    lambda now: msgspec.structs.replace(now, log=verdict.identity),
                )
            case Standing.UNPROVABLE if not self._unproven:
                self._unproven = True
                await self._journal.update(
                    "identity",
                    f"{verdict.message}; what was verified before counts no more",
                    lambda now: msgspec.structs.replace(now, voided=now.voided + 1),
                )

    async def pin(self) -> None:
        """Resolve every configured name once: at the capture."""
        names: dict[str, str] = {}
        for side, store, name in self._names():
            names[f"{side}/{name}"] = await _resolved(store, name)

        def pinned(record: MigrationRecord) -> MigrationRecord | None:
            if record.capture is not None or record.collections == names:
                return None
            return msgspec.structs.replace(record, collections=names)

        await self._journal.update("identity", "names resolved", pinned, names=names)

    async def claim(self, lease: Lease) -> None:
        """
        Leave the mark of this incarnation at the target: at the start of a process, and after
        each switch. What it says is persisted first, so that ours is never the lower one.
        """
        if self._claimed is not None and self._claimed == self._journal.record.incarnation:
            return
        if self._claimed is None:
            await self._journal.update("identity", "a process began", _next_incarnation)
        record = self._journal.record
        assert record.capture is not None
        mark = Mark(record.capture.id, record.epoch, record.incarnation)
        marked = self._parts.settings.targets if self._target.traits.marks else ()
        for name in marked:
            await self._writers[Direction.FORWARD].administer(
                lease, partial(self._target.store.mark, name, mark)
            )
        self._claimed = record.incarnation

    def disclaim(self) -> None:
        """A person says that this state is the right one, whatever mark the target bears: it is
        claimed anew.
        """
        self._claimed = None

    def _was_overwritten(self, found: CollectionSchema | None) -> bool:
        mark = found.mark if found is not None else None
        return mark is not None and mark.incarnation < (self._claimed or 0)

    async def adopt_log(self, note: str) -> None:
        """A person says that this log continues the one that was captured."""

        def adopted(record: MigrationRecord) -> MigrationRecord:
            return msgspec.structs.replace(record, log=identity, voided=record.voided + 1)

        feed = self._parts.feed
        assert feed is not None, "without a feed no log is replaced"
        identity = await feed.identity()
        was = self._journal.record.log
        # The positions stay; what lay before them is now what lies before them in this log.
        positions = await self._parts.state.positions()
        bookmarks = await bookmarks_before(feed, positions)
        await self._parts.state.commit(positions, {}, bookmarks)
        await self._journal.update(
            "acknowledge",
            f"log-replaced: {note or 'no note'}",
            adopted,
            was=None if was is None else was.id,
            now=identity.id,
        )

    async def highest_mark(self) -> int:
        """The highest incarnation that any target collection bears."""
        highest = 0
        for name in self._parts.settings.targets:
            found = await self._target.once.describe(name)
            if found is not None and found.mark is not None:
                highest = max(highest, found.mark.incarnation)
        return highest

    def _judge(
        self, record: MigrationRecord, name: str, found: CollectionSchema | None
    ) -> None:
        unmade = (record.back_to or record.phase) in _UNMADE
        if found is None:
            if unmade:
                return
            raise Blocked("target-missing", f"the target has no collection {name!r} any more")
        assert record.capture is not None
        if not self._target.traits.marks:
            return
        mark = found.mark
        if mark is None or mark.capture_id != record.capture.id:
            if unmade:
                return  # the copy's own look decides what may be wiped
            whose = "no mark" if mark is None else "the mark of another capture"
            raise Blocked("mark-lost", f"the target's {name!r} bears {whose}")
        if mark.incarnation > record.incarnation:
            raise Blocked(
                "mark-newer",
                f"the target's {name!r} was written by incarnation {mark.incarnation} of this "
                f"migration, and this is {record.incarnation}",
            )
        if self._was_overwritten(found):
            raise Blocked(
                "mark-newer",
                f"the target's {name!r} bears the mark of incarnation {mark.incarnation} of "
                f"this migration, written over that of {self._claimed}, which is this one",
            )

    async def _aliases(self, record: MigrationRecord) -> None:
        switch = self._parts.settings.cutover.switch
        ours = switch.aliases if isinstance(switch, AliasSettings) else []
        for side, store, name in self._names():
            pinned = record.collections.get(f"{side}/{name}")
            if pinned is None or name in ours:  # what our own switch moves is not watched
                continue
            now = await _resolved(store, name)
            if now != pinned and not self._switched(record, now):
                raise Blocked(
                    "alias-moved",
                    f"the {side}'s {name!r} stood for {pinned!r}, and now for {now!r}",
                )

    @staticmethod
    def _switched(record: MigrationRecord, now: str) -> bool:
        """Whether an alias of the source leads to where the traffic was sent: the switch."""
        crossed = record.direction is Direction.REVERSE or record.phase is Phase.SWITCHING
        targets = {c for n, c in record.collections.items() if n.startswith("target/")}
        return crossed and now in targets

    def _names(self) -> list[tuple[str, StoreWriter, str]]:
        return [
            each
            for collection in self._parts.settings.collections
            for each in (
                ("source", self._source.store, collection.source),
                ("target", self._target.store, collection.target),
            )
        ]


def _next_incarnation(record: MigrationRecord) -> MigrationRecord:
    return msgspec.structs.replace(
        record, incarnation=record.incarnation + 1 + secrets.randbelow(_STEP_MAX)
    )


async def _resolved(store: StoreWriter, name: str) -> str:
    """The collection behind a name, which may be an alias."""
    behind = await store.read_alias(name) if isinstance(store, AliasKeeper) else None
    return behind or name
