"""The operations that faults meet, and what each write makes of a collection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from replicator.errors import ReplicatorError
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.model.search import Query
from replicator.model.write import Delete, Patch, Upsert, WriteBatch
from replicator.ports.store import Store
from replicator.testing.store_conformance.examples import floats, fresh_name
from replicator.testing.store_conformance.suite import Suite, scanned, settle, write

READS = ("describe", "count", "fetch", "scan", "search")
WRITES = ("upsert", "patch", "delete", "ensure")

CAPTURE = "a-capture"
"""The mark that `ensure` leaves."""

Operation = Callable[[Store], Awaitable[object]]


class State(msgspec.Struct, frozen=True):
    """What a store holds of one collection."""

    exists: bool
    capture_id: str | None
    points: dict[PointId, Point]


class Case(msgspec.Struct, frozen=True):
    """One operation on a collection of its own, before it was called."""

    name: str
    collection: str
    call: Operation
    old: State
    new: State

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        return self.name in WRITES


class Operations(Suite):
    """Makes a case of each."""

    def can(self, name: str) -> bool:
        """Whether the store is ever asked for it."""
        lacks = {"patch": not self.traits.patches, "count": not self.traits.counts}
        return not lacks.get(name, False)

    async def case(self, direct: Store, name: str) -> Case:
        """A collection of three points, or none for `ensure`; `direct` makes it."""
        points = {self.id(n): self.point(n, n=n) for n in (1, 2, 3)}
        if name == "ensure":
            wanted = msgspec.structs.replace(self.wanted(fresh_name()), capture_id=CAPTURE)
            mark = CAPTURE if self.traits.marks else None
            return Case(
                name,
                wanted.name,
                lambda store: store.ensure(wanted),
                State(False, None, {}),
                State(True, mark, {}),
            )
        collection = await self.made(direct)
        await write(direct, collection, *map(Upsert, points.values()))
        old = State(True, None, points)
        if name in READS:
            chunks = await direct.split(collection, 1)
            return Case(name, collection, self._read(name, collection, chunks), old, old)
        batch, new = self._batch(name, collection, points)
        return Case(
            name, collection, lambda store: store.apply(batch), old, State(True, None, new)
        )

    async def renewed(self, direct: Store, case: Case) -> Case:
        """The same operation, before it was called: to make a collection takes long."""
        if case.name == "ensure":
            return await self.case(direct, case.name)
        if case.writes:
            added = map(Delete, case.new.points.keys() - case.old.points.keys())
            await write(direct, case.collection, *map(Upsert, case.old.points.values()), *added)
        return case

    def _batch(
        self, name: str, collection: str, points: dict[PointId, Point]
    ) -> tuple[WriteBatch, dict[PointId, Point]]:
        one, two, three = points
        match name:
            case "upsert":
                made = [self.at(one, 5.0, again=True), self.point(4, n=4)]
                changed = {point.id: point for point in made}
                return WriteBatch(collection, tuple(map(Upsert, made))), points | changed
            case "patch":
                patched = self.at(two, 1.0, p=1)
                patch = Patch(id=two, set={"p": 1}, unset=("n",))
                return WriteBatch(collection, (patch,)), points | {two: patched}
            case _:
                left = {one: points[one], two: points[two]}
                return WriteBatch(collection, (Delete(three),)), left

    def _read(self, name: str, collection: str, chunks: list[Chunk]) -> Operation:
        ids = self.ids((1, 2, 3, 4))
        query = Query(vector=floats(1, 2), limit=2, using=self.vector)
        reads: dict[str, Operation] = {
            "describe": lambda store: store.describe(collection),
            "count": lambda store: store.count(collection),
            "fetch": lambda store: store.fetch(collection, ids),
            "scan": lambda store: scanned(store, chunks, 2),
            "search": lambda store: store.search(collection, query),
        }
        return reads[name]

    async def state(self, direct: Store, collection: str) -> State:
        """What there is, once reads show it."""
        await settle(direct)
        schema = await direct.describe(collection)
        if schema is None:
            return State(False, None, {})
        points = await direct.fetch(collection, self.ids((1, 2, 3, 4)))
        return State(True, schema.capture_id, points)

    def check_state(self, found: State, wanted: State) -> None:
        """The same collection, mark and points."""
        assert (found.exists, found.capture_id) == (wanted.exists, wanted.capture_id)
        assert found.points == wanted.points


async def error_of(call: Awaitable[Any]) -> ReplicatorError | None:
    """
    The error with which it ends, without the frames that it passed, which would keep
    connections open. What is no error of ours fails the test.
    """
    try:
        await call
    except asyncio.CancelledError:
        pass
    except ReplicatorError as error:
        return _bare(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it was not translated
        pytest.fail(f"not translated: {error!r}")
    else:
        return None
    raise asyncio.CancelledError


def _bare(error: ReplicatorError) -> ReplicatorError:
    passed: BaseException | None = error
    while passed is not None:
        cause = passed.__cause__ or passed.__context__
        passed.__traceback__ = passed.__cause__ = passed.__context__ = None
        passed = cause
    return error
