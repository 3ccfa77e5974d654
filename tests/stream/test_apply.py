"""Works become writes; of a refused one everything takes effect but the record to blame."""

from __future__ import annotations

import asyncio
import math
import struct

import msgspec
import pytest

from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key
from replicator.model.point import Point
from replicator.model.position import Partition, Record
from replicator.model.write import Upsert
from replicator.settings.transform import CollectionSettings, TransformSettings
from replicator.stream.fold import fold
from replicator.stream.lane import Work
from replicator.stream.transform import FieldTransform
from replicator.stream.watermark import Ticket
from tests.stream.rig import (
    BOOKS,
    PAPERBACKS,
    Rig,
    delete,
    key,
    now,
    patch,
    point,
    refuses_poison,
    upsert,
    virtual,
)

REFUSED = Rejected("target-rejected", "no")


def work_of(rig: Rig, *events: ChangeEvent) -> Work:
    """The work that stands for these events of one key, which are in the log as well."""
    start = rig.log.bounds()[rig.first].end
    rig.emit(*events)
    folded: ChangeEvent | None = None
    for event in events:
        folded = fold(folded, event)
    tickets = [Ticket(start + number + 1) for number in range(len(events))]
    return Work(events[0].key, folded, tickets, 1, 0)


async def apply_work(rig: Rig, work: Work) -> None:
    refused = await rig.applier.apply(rig.lease, [(work.key, work.event)])
    if work.key in refused:
        await rig.applier.one_by_one(rig.lease, rig.first, work, refused[work.key])


@virtual
async def test_changes_of_several_keys_are_one_write() -> None:
    rig = Rig()
    rig.seed(point(2, old=1), point(3))
    changes = [upsert(1, a=1), patch(2, b=2), delete(3)]
    assert await rig.applier.apply(rig.lease, [(event.key, event) for event in changes]) == {}
    assert len(rig.door.batches) == 1
    assert rig.payloads() == {1: {"a": 1}, 2: {"old": 1, "b": 2}}


@virtual
async def test_changes_of_several_collections_are_written_side_by_side() -> None:
    rig = Rig()
    rig.target.create(msgspec.structs.replace(BOOKS, name="films"))
    rig.routes["films"] = msgspec.structs.replace(
        rig.routes["books"], collection="films", store="films"
    )
    rig.target.refuses = refuses_poison
    rig.door.takes_s = 5.0
    film = msgspec.structs.replace(upsert(1, poison="point"), key=Key("films", 1))
    refused = await rig.applier.apply(rig.lease, [(key(1), upsert(1)), (film.key, film)])
    assert (now(), list(refused)) == (5.0, [Key("films", 1)])
    assert rig.payloads() == {1: {}}


@virtual
async def test_a_change_without_an_event_takes_the_sources_image() -> None:
    rig = Rig()
    rig.seed(point(1, a=1), target=False)
    rig.seed(point(1, a=0), point(2), source=False)
    assert await rig.applier.apply(rig.lease, [(key(1), None), (key(2), None)]) == {}
    assert rig.payloads() == {1: {"a": 1}}


@virtual
async def test_an_image_that_the_filter_leaves_out_is_a_delete() -> None:
    rig = Rig(transform=TransformSettings(filter=PAPERBACKS))
    rig.seed(point(1, kind="cloth"))
    await rig.applier.apply(rig.lease, [(key(1), None)])
    assert rig.payloads() == {}


@virtual
async def test_a_row_that_is_no_point_refuses_its_own_key_alone() -> None:
    rig = Rig()
    rig.seed(point(1, a=1), point(2, a=2), target=False)
    rig.images.unreadable[1] = Rejected("vector-not-finite", "NaN", "vectors.v")
    refused = await rig.applier.apply(rig.lease, [(key(1), None), (key(2), None)])
    assert {k.id: error.code for k, error in refused.items()} == {1: "vector-not-finite"}
    assert rig.payloads() == {2: {"a": 2}}


@virtual
async def test_what_the_transform_cannot_carry_is_refused_and_the_others_are_written() -> None:
    rig = Rig(transform=TransformSettings(cast={"year": "int"}))
    changes = [upsert(1, year="soon"), upsert(2, year="1999")]
    refused = await rig.applier.apply(rig.lease, [(event.key, event) for event in changes])
    assert {k.id: error.code for k, error in refused.items()} == {1: "transform-failed"}
    assert rig.payloads() == {2: {"year": 1999}}


@virtual
async def test_patches_of_absent_points_are_counted() -> None:
    rig = Rig()
    await rig.applier.apply(rig.lease, [(key(1), patch(1, a=1))])
    assert rig.applier.absent == 1
    assert rig.payloads() == {}


@virtual
async def test_of_a_refused_folded_work_only_the_record_to_blame_is_a_letter() -> None:
    rig = Rig()
    rig.target.refuses = refuses_poison
    work = work_of(rig, upsert(1, a=1), patch(1, poison="point"), patch(1, b=2))
    await apply_work(rig, work)
    assert await rig.letters_now() == [(1, "target-rejected", "open")]
    assert rig.payloads() == {1: {"a": 1, "b": 2}}


@virtual
async def test_records_of_other_keys_between_are_not_applied_by_a_burial() -> None:
    rig = Rig()
    rig.target.refuses = refuses_poison
    rig.emit(upsert(1, poison="batch"), upsert(2, stranger=True), patch(1, b=2))
    folded = fold(upsert(1, poison="batch"), patch(1, b=2))
    work = Work(key(1), folded, [Ticket(1), Ticket(3)], 1, 0)
    await apply_work(rig, work)
    assert rig.payloads() == {}
    assert await rig.letters_now() == [(0, "target-rejected", "open")]


@virtual
async def test_a_record_that_is_alone_is_not_written_twice() -> None:
    rig = Rig()
    rig.target.refuses = refuses_poison
    await apply_work(rig, work_of(rig, upsert(1, poison="point")))
    assert len(rig.door.batches) == 1
    assert await rig.letters_now() == [(0, "target-rejected", "open")]


@virtual
async def test_every_record_behind_a_refused_image_is_a_letter() -> None:
    rig = Rig(transform=TransformSettings(filter=PAPERBACKS))
    rig.target.refuses = refuses_poison
    rig.seed(point(1, kind="paper", poison="point"), target=False)
    rig.emit(patch(1, kind="paper"), patch(1, poison="point"))
    work = Work(key(1), None, [Ticket(1), Ticket(2)], 1, 0)
    await apply_work(rig, work)
    assert [offset for offset, _, _ in await rig.letters_now()] == [0, 1]


@virtual
async def test_a_patch_that_is_applied_alone_waits_for_the_sources_image_if_it_needs_one() -> (
    None
):
    rig = Rig(transform=TransformSettings(filter=PAPERBACKS), show_after_s=4.0)
    rig.target.refuses = refuses_poison
    rig.seed(point(1, kind="paper", from_the="source"), target=False)
    work = work_of(rig, upsert(1, kind="paper", poison="point"), patch(1, kind="paper"))
    await apply_work(rig, work)
    assert rig.images.fetched == [(4.0, [1])]
    assert rig.payloads() == {1: {"kind": "paper", "from_the": "source"}}
    assert await rig.letters_now() == [(0, "target-rejected", "open")]


@virtual
async def test_a_burial_waits_for_a_log_that_is_away() -> None:
    rig = Rig()
    rig.target.refuses = refuses_poison
    work = work_of(rig, upsert(1, poison="point"))
    rig.log.away = True
    burying = asyncio.create_task(apply_work(rig, work))
    await asyncio.sleep(60)
    assert not burying.done()
    assert await rig.letters_now() == []
    rig.log.away = False
    await burying
    assert await rig.letters_now() == [(0, "target-rejected", "open")]
    assert now() > 60


class Meeting(FieldTransform):
    """Two keys meet at one id: a stray point there was taken for a key of its own."""

    def target_id(self, key: Key) -> int:
        return 9


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@virtual
async def test_a_key_that_leads_to_the_id_of_a_stray_point_is_written_not_deleted(
    order: tuple[int, int],
) -> None:
    rig = Rig()
    rig.seed(point(1, a=1), target=False)
    here = CollectionSettings(source="books", target="books")
    rig.routes["books"] = msgspec.structs.replace(
        rig.routes["books"], transform=Meeting(here, BOOKS, BOOKS)
    )
    await rig.applier.apply(rig.lease, [(key(number), None) for number in order])
    [[write]] = [batch.writes for _, batch in rig.door.batches]
    assert isinstance(write, Upsert)


@virtual
async def test_an_image_with_nan_is_refused_and_never_written() -> None:
    rig = Rig()
    spoilt = Point(1, {"v": struct.pack("<2f", math.nan, 0.0)}, {})
    rig.seed(spoilt, target=False)
    rig.seed(point(2), target=False)
    refused = await rig.applier.apply(rig.lease, [(key(1), None), (key(2), None)])
    assert {at.id: (error.code, error.path) for at, error in refused.items()} == {
        1: ("vector-not-finite", "vectors.v")
    }
    assert rig.payloads() == {2: {}}


@virtual
async def test_each_record_of_a_refused_work_gets_its_own_reason() -> None:
    rig = Rig(transform=TransformSettings(cast={"year": "int"}))
    rig.target.refuses = refuses_poison
    await apply_work(rig, work_of(rig, upsert(1, poison="point"), patch(1, year="unknown")))
    assert [(offset, code) for offset, code, _ in await rig.letters_now()] == [
        (0, "target-rejected"),
        (1, "transform-failed"),
    ]


@virtual
async def test_where_compaction_left_one_record_of_several_it_is_judged_for_itself() -> None:
    rig = Rig()
    rig.target.refuses = refuses_poison
    work = work_of(rig, upsert(1, poison="point"), patch(1, n=1))
    rig.log.truncate(0, 1)
    rig.seed(point(1))
    records = rig.applier._records

    async def what_is_left(partition: Partition, work: Work) -> list[Record]:
        work = msgspec.structs.replace(work, tickets=work.tickets[1:])
        return await records(partition, work)

    rig.applier._records = what_is_left  # type: ignore[method-assign]
    await apply_work(rig, work)
    assert await rig.letters_now() == []
    assert rig.payloads() == {1: {"n": 1}}


@virtual
async def test_what_waited_behind_an_image_that_became_durable_is_void() -> None:
    rig = Rig()
    older, anew = (
        Work(key(1), upsert(1, version=0), [Ticket(1)], 1, 0),
        Work(key(1), upsert(1, version=0), [Ticket(1), Ticket(2)], 1, 0, anew=True),
    )
    assert not rig.applier.is_void(older)
    await rig.applier.apply(rig.lease, [(key(1), upsert(1, version=1))])
    assert rig.applier.is_void(older)
    assert not rig.applier.is_void(anew)
    await rig.applier.one_by_one(rig.lease, rig.first, older, None)
    assert rig.applier.discarded == 1
    # A copied image has no version, and leaves the order as it is.
    await rig.applier.apply(rig.lease, [(key(1), None)])
    assert rig.applier.is_void(older)
