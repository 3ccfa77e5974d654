"""What every store keeps, whatever it is reached by."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import ClassVar

import msgspec
import pytest

from replicator.errors import OutcomeUnknown, Refused, Rejected, Retryable, Unavailable
from replicator.model.point import Point, PointId
from replicator.model.write import Upsert, Write, WriteBatch
from replicator.ports.store import Page, RejectedRow, Store
from replicator.testing.store_conformance.examples import floats, ids_beyond
from replicator.testing.store_conformance.suite import settle
from replicator.testing.store_faults.cells import Cell
from replicator.testing.store_faults.operations import (
    READS,
    WRITES,
    Case,
    Operations,
    error_of,
)

MISSING = ("source-missing", "target-missing")
"""Codes of a collection that is not there."""

_SCANS = 30
"""Scans that are left after a page: more than any pool of connections holds."""

_PAUSE_S = 0.02
"""Between tries of a store that is there again. When it connects it tells nobody."""


class StoreFaults(Operations):
    """
    The suite. Two fixtures: `store` is the one that is tested, `direct` is another one at the
    same place, which no fault meets.
    """

    excused: ClassVar[Mapping[Cell, str]] = {}
    """Why the kind cannot have a fault."""
    recovery_s: ClassVar[float] = 15.0
    """How long after a fault the store may still be unable to do what it could before."""

    # -- hooks ------------------------------------------------------------------------------

    def away(self) -> AbstractAsyncContextManager[None]:
        """While it lasts nobody is there."""
        raise _not_given(Cell.AWAY)

    def full(self, collection: str) -> AbstractAsyncContextManager[None]:
        """While it lasts there is no room for another point."""
        raise _not_given(Cell.FULL)

    def read_only(self, collection: str) -> AbstractAsyncContextManager[None]:
        """While it lasts the collection may not be written."""
        raise _not_given(Cell.READ_ONLY)

    async def drop(self, direct: Store, collection: str) -> None:
        """Delete the collection, as somebody else would."""
        raise _not_given(Cell.GONE)

    async def spoil(self, direct: Store, collection: str) -> PointId | None:
        """Leave a row that is no point beside the others; its id, if it has one."""
        raise _not_given(Cell.UNREADABLE)

    def unfit(self) -> Sequence[Point]:
        """Points that are refused, each alone. By the traits, unless a class knows others."""
        found = []
        if self.traits.vectors.checks_dimensions:
            found.append(Point(self.id(1), {self.vector: floats(1, 2, 3)}, {}))
        beyond = ids_beyond(self.id_kinds()[0], self.traits.ids.limits)
        found += [self.at(each) for each in self.placed(beyond)]
        if not found:
            raise _not_given(Cell.PARTIAL)
        return found

    # -- laws -------------------------------------------------------------------------------

    def test_what_is_excused_has_a_reason(self) -> None:
        assert all(reason.strip() for reason in self.excused.values())

    @pytest.mark.parametrize("name", READS + WRITES)
    async def test_a_store_that_is_away_is_unavailable_and_useful_again_afterwards(
        self, store: Store, direct: Store, name: str
    ) -> None:
        self.needs(Cell.AWAY, name)
        case = await self.case(direct, name)
        # A store that has been in use writes at once, without a look that would fail before.
        assert await error_of(case.call(store)) is None
        case = await self.renewed(direct, case)
        async with self.away():
            # What is open breaks with the first request, and may have been sent by then.
            await error_of(store.describe(case.collection))
            error = await error_of(case.call(store))
            assert isinstance(error, Unavailable), error
        self.check_state(await self.state(direct, case.collection), case.old)
        await self.again(store, case)
        self.check_state(await self.state(direct, case.collection), case.new)

    @pytest.mark.parametrize("name", [*READS, "upsert", "patch", "delete"])
    async def test_a_collection_that_went_away_is_refused_and_not_made_anew(
        self, store: Store, direct: Store, name: str
    ) -> None:
        self.needs(Cell.GONE, name)
        case = await self.case(direct, name)
        # Whatever the store remembers of the collection, it knows by now.
        assert await error_of(case.call(store)) is None
        await self.drop(direct, case.collection)
        if name == "describe":
            assert await store.describe(case.collection) is None
        elif not (case.writes and self.traits.creates_on_write):
            error = await error_of(case.call(store))
            assert isinstance(error, Refused), error
            assert error.code in MISSING
            assert await direct.describe(case.collection) is None

    @pytest.mark.parametrize("page_rows", [1, 2, 10])
    async def test_an_unreadable_row_is_told_and_the_scan_goes_on(
        self, store: Store, direct: Store, page_rows: int
    ) -> None:
        self.needs(Cell.UNREADABLE)
        case = await self.case(direct, "scan")
        bad = await self.spoil(direct, case.collection)
        pages = [
            page
            for chunk in await store.split(case.collection, 1)
            async for page in store.scan(chunk, None, page_rows)
        ]
        points = {point.id: point for page in pages for point in page.points}
        assert points == {key: point for key, point in case.old.points.items() if key != bad}
        [row] = _rejected(pages)
        assert (row.id, bool(row.place), bool(row.error.message)) == (bad, True, True)
        if bad is not None:
            error = await error_of(store.fetch(case.collection, [bad]))
            assert isinstance(error, Rejected), error
        assert await store.fetch(case.collection, list(points)) == points

    async def test_of_a_batch_exactly_the_unfit_points_are_refused(
        self, store: Store, direct: Store
    ) -> None:
        self.needs(Cell.PARTIAL)
        case = await self.case(direct, "fetch")
        unfit = self.unfit()
        fit = [self.point(number, 9.0, n=number) for number in range(10, 10 + len(unfit) + 1)]
        between = [Upsert(each) for pair in zip(fit, unfit, strict=False) for each in pair]
        refused = await _bisect(store, case.collection, (*between, Upsert(fit[-1])))
        assert [point_id for point_id, _ in refused] == [point.id for point in unfit]
        assert all(error.message for _, error in refused)
        await settle(store)
        written = await direct.fetch(case.collection, [point.id for point in fit])
        assert written == {point.id: point for point in fit}
        self.check_state(await self.state(direct, case.collection), case.old)

    async def test_where_there_is_no_room_nothing_is_written_and_reads_go_on(
        self, store: Store, direct: Store
    ) -> None:
        self.needs(Cell.FULL)
        case = await self.case(direct, "upsert")
        big = self.point(4, text="x" * (1 << 16))
        # The first one alone would find room.
        batch = WriteBatch(case.collection, (Upsert(self.point(1, 7.0)), Upsert(big)))
        async with self.full(case.collection):
            error = await error_of(store.apply(batch))
            assert isinstance(error, Refused | Retryable), error
            assert not isinstance(error, OutcomeUnknown)
            known = list(case.old.points)
            assert await store.fetch(case.collection, known) == case.old.points
        self.check_state(await self.state(direct, case.collection), case.old)
        await self.again(store, msgspec.structs.replace(case, call=lambda s: s.apply(batch)))
        assert await direct.fetch(case.collection, [big.id]) == {big.id: big}

    @pytest.mark.parametrize("name", [*READS, "upsert", "patch", "delete"])
    async def test_where_writing_is_not_allowed_it_is_refused_and_reads_go_on(
        self, store: Store, direct: Store, name: str
    ) -> None:
        self.needs(Cell.READ_ONLY, name)
        case = await self.case(direct, name)
        async with self.read_only(case.collection):
            error = await error_of(case.call(store))
            if case.writes:
                assert isinstance(error, Refused), error
                assert error.code == "permission-denied"
            else:
                assert error is None
        self.check_state(await self.state(direct, case.collection), case.old)
        await self.again(store, case)
        self.check_state(await self.state(direct, case.collection), case.new)

    async def test_scans_that_are_left_hold_nothing(self, store: Store, direct: Store) -> None:
        case = await self.case(direct, "fetch")
        [chunk] = await store.split(case.collection, 1)
        async with asyncio.timeout(self.recovery_s):
            for _ in range(_SCANS):
                await _left(store, chunk)
            await case.call(store)

    # -- what the laws share ----------------------------------------------------------------

    def needs(self, cell: Cell, name: str = "") -> None:
        """Skip the test where the kind is excused from the fault, or has no such operation."""
        if cell in self.excused:
            pytest.skip(self.excused[cell])
        if name and not self.can(name):
            pytest.skip(f"traits: the store is never asked to {name}")

    async def again(self, store: Store, case: Case) -> None:
        """Do it, as who called would: again, until the store has found back."""
        async with asyncio.timeout(self.recovery_s):
            while (error := await error_of(case.call(store))) is not None:
                assert isinstance(error, Retryable), error
                await asyncio.sleep(_PAUSE_S)
        await settle(store)


async def _left(store: Store, chunk: object) -> None:
    pages = store.scan(chunk, None, 1)  # type: ignore[arg-type]
    async with aclosing(pages) as reading:  # type: ignore[type-var]
        async for _ in reading:
            return


async def _bisect(
    store: Store, collection: str, writes: Sequence[Write]
) -> list[tuple[PointId, Rejected]]:
    """What is refused of a batch, in its order, as the engine finds it out."""
    order = [each.id for each in writes]
    try:
        receipt = await store.apply(WriteBatch(collection, tuple(writes)))
    except Rejected as error:
        if len(writes) == 1:
            return [(writes[0].id, error)]
        half = len(writes) // 2
        first = await _bisect(store, collection, writes[:half])
        return first + await _bisect(store, collection, writes[half:])
    return sorted(receipt.rejected, key=lambda one: order.index(one[0]))


def _rejected(pages: Sequence[Page]) -> list[RejectedRow]:
    return [row for page in pages for row in page.rejected]


def _not_given(cell: Cell) -> BaseException:
    """A hook that a class neither gives nor is excused from."""
    return pytest.fail.Exception(
        f"{cell.value}: give the hook that `Cell.{cell.name}` names, or a reason in `excused`"
    )
