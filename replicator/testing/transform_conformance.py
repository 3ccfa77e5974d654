"""
What every transform must do: one suite, run by each.

Subclass `TransformConformance` in a test module and give it four fixtures:

- `transform`: a Transform of the collection `books`;
- `points`: some points of the source, each with an id of its own, that it carries;
- `refused`: one that it refuses, by an id of its own;
- `patches`: patch events of the first of the points, of which it can follow one at least.
"""

from __future__ import annotations

import asyncio
from copy import deepcopy

from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import Point
from replicator.model.write import Delete, Patch, Upsert, apply_patch
from replicator.ports.transform import Item, Row, Transform


def row(point: Point) -> Row:
    """A point as it is read from the source."""
    return Row(Key("books", point.id), point)


def event(point: Point, op: Op = Op.UPSERT) -> ChangeEvent:
    """A point as an event brings it."""
    if op is Op.DELETE:
        return ChangeEvent(op=op, key=Key("books", point.id), ts_ms=1)
    return ChangeEvent(
        op=op,
        key=Key("books", point.id),
        ts_ms=1,
        vectors=point.vectors,
        payload=point.payload,
    )


class TransformConformance:
    """The laws of the port."""

    async def test_each_item_has_one_answer_in_its_place(
        self, transform: Transform, points: list[Point]
    ) -> None:
        rows: list[Item] = [row(point) for point in points]
        events: list[Item] = [event(point) for point in points]
        for items in (rows, events):
            writes = await transform.writes(items)
            places = [transform.target_id(item.key) for item in items]
            assert [write.id for write in writes if isinstance(write, Upsert)] == places
            assert len(set(places)) == len(points)

    async def test_a_row_becomes_what_its_event_does(
        self, transform: Transform, points: list[Point]
    ) -> None:
        rows = await transform.writes([row(point) for point in points])
        assert rows == await transform.writes([event(point) for point in points])

    async def test_nothing_to_carry_is_no_call_too_many(self, transform: Transform) -> None:
        assert await transform.writes([]) == []

    async def test_one_that_is_refused_hides_no_other(
        self, transform: Transform, points: list[Point], refused: Point
    ) -> None:
        alone = await transform.writes([row(point) for point in points])
        bad, *writes = await transform.writes([row(refused), *map(row, points)])
        assert isinstance(bad, Rejected)
        assert writes == alone

    async def test_what_is_gone_is_a_delete(
        self, transform: Transform, points: list[Point]
    ) -> None:
        point = points[0]
        gone: list[Item] = [Row(Key("books", point.id), None), event(point, Op.DELETE)]
        place = transform.target_id(Key("books", point.id))
        assert await transform.writes(gone) == [Delete(place)] * 2

    async def test_an_answer_depends_on_nothing_but_its_item(
        self, transform: Transform, points: list[Point]
    ) -> None:
        together = await transform.writes([row(point) for point in points])
        assert [(await transform.writes([row(point)]))[0] for point in points] == together
        turned = await transform.writes([row(point) for point in reversed(points)])
        assert turned[::-1] == together

    async def test_what_was_cut_short_is_answered_the_next_time(
        self, transform: Transform, points: list[Point]
    ) -> None:
        rows = [row(point) for point in points]
        wanted = await transform.writes(rows)
        asking = asyncio.ensure_future(transform.writes(rows))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert await transform.writes(rows) == wanted

    async def test_a_pure_one_never_waits(
        self, transform: Transform, points: list[Point]
    ) -> None:
        asking = asyncio.ensure_future(transform.writes([row(point) for point in points]))
        await asyncio.sleep(0)
        assert asking.done() or not transform.pure
        await asking

    async def test_nothing_that_was_given_is_changed(
        self, transform: Transform, points: list[Point], patches: list[ChangeEvent]
    ) -> None:
        portable = [patch for patch in patches if not transform.needs_image(patch)]
        before = deepcopy((points, portable))
        await transform.writes([*map(row, points), *map(event, points), *portable])
        assert (points, portable) == before

    async def test_a_place_leads_back_to_its_key(
        self, transform: Transform, points: list[Point]
    ) -> None:
        for point in points:
            [write] = await transform.writes([row(point)])
            assert isinstance(write, Upsert)
            assert point.id in transform.candidates(write.id, write.point.payload)

    async def test_a_patch_is_portable_or_needs_the_image(
        self, transform: Transform, points: list[Point], patches: list[ChangeEvent]
    ) -> None:
        portable = [patch for patch in patches if not transform.needs_image(patch)]
        assert portable, "of these patches it follows none"
        [before] = await transform.writes([row(points[0])])
        assert isinstance(before, Upsert)
        for patch in portable:
            [moved] = await transform.writes([patch])
            [after] = await transform.writes([row(apply_patch(points[0], patch))])
            assert isinstance(moved, Patch)
            assert after == Upsert(apply_patch(before.point, moved))

    async def test_only_a_patch_needs_an_image(
        self, transform: Transform, points: list[Point]
    ) -> None:
        for op in (Op.UPSERT, Op.DELETE):
            assert not any(transform.needs_image(event(point, op)) for point in points)
