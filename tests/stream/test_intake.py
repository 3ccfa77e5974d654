"""A record becomes an event that concerns us, a reason, or nothing of ours."""

from __future__ import annotations

import msgspec
import pytest

from replicator.codecs.events import EventDecoder, encode
from replicator.codecs.partition import murmur2_partition
from replicator.codecs.validation import Demand, demand_of
from replicator.errors import Blocked, EpochAhead, Rejected
from replicator.model.epoch import Epochs
from replicator.model.event import ChangeEvent, Key
from replicator.model.point import Point
from replicator.model.position import Partition, Record
from replicator.model.schema import IdKinds, VectorSchema
from replicator.stream.intake import Intake
from tests.stream.rig import BOOKS, Rig, delete, key, patch, upsert, vector, virtual


def record(raw_key: bytes | None, value: bytes | None, partition: str = "changes/0") -> Record:
    return Record(partition=Partition(partition), offset=0, key=raw_key, value=value, at_ms=5)


def record_of(event: ChangeEvent) -> Record:
    return record(*encode(event))


def reason(read: object) -> tuple[str, str]:
    assert isinstance(read, Rejected)
    return read.code, read.path


@virtual
async def test_events_of_our_collections_are_read() -> None:
    intake = Rig().intake
    for event in (upsert(1, a=1), patch(2, b=2), delete(3)):
        assert intake.event(record_of(event)) == event


@virtual
async def test_a_null_value_is_a_delete() -> None:
    assert Rig().intake.event(record(b"books/7", None)) == msgspec.structs.replace(
        delete(7), ts_ms=5
    )


@virtual
async def test_a_collection_that_is_not_listed_is_nothing_of_ours() -> None:
    other = msgspec.structs.replace(upsert(1), key=Key("films", 1))
    assert Rig().intake.event(record_of(other)) is None


@virtual
async def test_a_malformed_value_comes_back_as_the_reason_and_its_key_is_known() -> None:
    intake = Rig().intake
    broken = record(b"books/7", b"\xff")
    assert reason(intake.event(broken))[0] == "value-malformed"
    assert intake.key(broken) == key(7)


@pytest.mark.parametrize("raw", [None, b"", b"no slash", b"books/not-a-number", b"books/%zz"])
@virtual
async def test_a_key_that_cannot_be_read_is_none(raw: bytes | None) -> None:
    intake = Rig().intake
    assert intake.key(record(raw, b"x")) is None
    assert isinstance(intake.event(record(raw, b"x")), Rejected)


@virtual
async def test_vectors_are_held_to_the_sources_schema() -> None:
    intake = Rig().intake
    short = msgspec.structs.replace(upsert(1), vectors={"v": b"\0\0\0\0"})
    unknown = msgspec.structs.replace(upsert(1), vectors={"w": vector()})
    assert reason(intake.event(record_of(short))) == ("vector-dimension", "vectors.v")
    assert reason(intake.event(record_of(unknown))) == ("vector-unknown", "vectors.w")


@virtual
async def test_a_patch_with_a_wrong_vector_is_refused_and_one_without_vectors_is_not() -> None:
    intake = Rig().intake
    wrong = msgspec.structs.replace(patch(1), vectors={"v": b"\0\0\0\0"})
    assert reason(intake.event(record_of(wrong)))[0] == "vector-dimension"
    assert isinstance(intake.event(record_of(patch(1, a=1))), ChangeEvent)


@virtual
async def test_an_event_of_an_older_epoch_passed_the_fence_late() -> None:
    intake = Rig(epoch=2).intake
    late = msgspec.structs.replace(upsert(1), epoch=1, writer="app-3")
    read = intake.event(record_of(late))
    assert reason(read) == ("epoch-stale", "epoch")
    assert "app-3" in str(read)


@pytest.mark.parametrize("epoch", [None, 2])
@virtual
async def test_an_event_without_an_epoch_or_of_this_one_is_in_time(epoch: int | None) -> None:
    event = msgspec.structs.replace(upsert(1), epoch=epoch)
    assert isinstance(Rig(epoch=2).intake.event(record_of(event)), ChangeEvent)


@virtual
async def test_an_event_of_a_later_epoch_is_passed_by_nobody() -> None:
    event = msgspec.structs.replace(upsert(1), epoch=3)
    ahead = Rig(epoch=2).intake.event(record_of(event))
    assert isinstance(ahead, EpochAhead)
    assert ahead.epoch == 3


@virtual
async def test_an_older_epoch_is_in_time_before_the_vector_that_ended_it() -> None:
    epochs = Epochs().enter(1, {Partition("changes/0"): 1}, moved=True)
    event = msgspec.structs.replace(upsert(1), epoch=0)
    assert isinstance(Rig(epochs=epochs).intake.event(record_of(event)), ChangeEvent)


@virtual
async def test_an_epoch_that_the_switch_denies_is_a_dead_letter() -> None:
    epochs = Epochs().deny(7)
    event = msgspec.structs.replace(upsert(1), epoch=7)
    assert reason(Rig(epochs=epochs).intake.event(record_of(event)))[0] == "epoch-denied"


@virtual
async def test_a_key_in_another_partition_than_its_hash_demands_is_misplaced() -> None:
    intake = Rig(partitioner="murmur2").intake
    raw = b"books/7"
    right = murmur2_partition(raw, 12)
    for number in range(12):
        misplaced = intake.is_misplaced(record(raw, None, f"changes/{number}"), 12)
        assert misplaced == (number != right)


@virtual
async def test_partition_eleven_is_not_taken_for_partition_one() -> None:
    intake = Rig(partitioner="murmur2").intake
    raw = next(
        b"books/%d" % n for n in range(500) if murmur2_partition(b"books/%d" % n, 12) == 1
    )
    assert intake.is_misplaced(record(raw, None, "changes/11"), 12)


@virtual
async def test_nothing_is_misplaced_where_no_partitioner_is_named_or_no_key_given() -> None:
    assert not Rig().intake.is_misplaced(record(b"books/7", None), 12)
    assert not Rig(partitioner="murmur2").intake.is_misplaced(record(None, None), 12)


@pytest.mark.parametrize("number", [-1, 1 << 63])
@virtual
async def test_an_id_that_the_source_cannot_hold_is_refused_whatever_the_event(
    number: int,
) -> None:
    rig = Rig()
    here = msgspec.structs.replace(rig.routes["books"], source=BOOKS)
    rig.routes["books"] = here
    for event in (upsert(number), patch(number, a=1), delete(number)):
        read = rig.intake.event(record_of(event))
        if number < 0:
            assert reason(read) == ("id-invalid", "id")
        else:
            assert read == event


@virtual
async def test_a_patch_that_removes_a_vector_nobody_knows_is_refused() -> None:
    intake = Rig().intake
    wrong = msgspec.structs.replace(patch(1), unset_vectors=("v", "w"))
    assert reason(intake.event(record_of(wrong))) == ("vector-unknown", "unset_vectors[1]")
    right = msgspec.structs.replace(patch(1), unset_vectors=("v",))
    assert isinstance(intake.event(record_of(right)), ChangeEvent)


@virtual
async def test_a_vector_that_no_point_can_be_without_is_not_removed_by_a_patch() -> None:
    rig = Rig()
    vectors = {"v": VectorSchema(size=2, required=True)}
    rig.routes["books"] = msgspec.structs.replace(rig.routes["books"], vectors=vectors)
    wrong = msgspec.structs.replace(patch(1), unset_vectors=("v",))
    read = rig.intake.event(record_of(wrong))
    assert reason(read) == ("vector-missing", "unset_vectors[0]")


def bare(number: int) -> Record:
    return record_of(msgspec.structs.replace(upsert(number), vectors={}))


@virtual
async def test_an_upsert_without_a_vector_that_is_demanded_is_refused() -> None:
    rig = Rig()
    assert isinstance(rig.intake.event(bare(1)), ChangeEvent)
    for demand, path in (
        (Demand(frozenset(["v"])), "vectors.v"),
        (Demand(frozenset(["v"]), declared=True), "vectors.v"),
        (Demand(some=True), "vectors"),
    ):
        rig.routes["books"] = msgspec.structs.replace(rig.routes["books"], demand=demand)
        read = rig.intake.event(bare(1))
        assert reason(read) == ("vector-missing", path)
        assert "vectors_required" in str(read)
        assert isinstance(rig.intake.event(record_of(upsert(1))), ChangeEvent)
        assert isinstance(rig.intake.event(record_of(patch(1, a=1))), ChangeEvent)


def test_what_an_upsert_must_bring_is_declared_or_learned_from_the_rows() -> None:
    one, two = {"v": VectorSchema()}, {"v": VectorSchema(), "w": VectorSchema()}
    full, empty = Point(1, {"v": vector()}, {}), Point(2, {}, {})
    assert demand_of(["w"], two, [empty]) == Demand(frozenset(["w"]), declared=True)
    assert demand_of([], one, [full]) == Demand(declared=True)
    assert demand_of(None, one, []) == demand_of(None, one, [full]) == Demand(frozenset(["v"]))
    assert demand_of(None, one, [full, empty]) == Demand()
    assert demand_of(None, two, [full]) == demand_of(None, None, [full]) == Demand(some=True)
    assert demand_of(None, two, []) == demand_of(None, None, [empty]) == Demand()


@virtual
async def test_an_id_that_the_source_cannot_hold_is_refused_with_what_it_can() -> None:
    rig = Rig()
    source = msgspec.structs.replace(BOOKS, ids=IdKinds.UINT64 | IdKinds.UUID)
    rig.routes["books"] = msgspec.structs.replace(rig.routes["books"], source=source)
    read = rig.intake.event(record(b"books/-5", None))
    assert reason(read) == ("id-invalid", "id")
    assert "integers from 0 to 2^64-1 and UUIDs" in str(read)


@virtual
async def test_of_a_source_that_keeps_no_null_an_image_says_what_the_source_says() -> None:
    rig = Rig()
    source = msgspec.structs.replace(BOOKS, null_is_absence=True)
    rig.routes["books"] = msgspec.structs.replace(rig.routes["books"], source=source)
    read = rig.intake.event(record_of(upsert(1, a=None, b={"c": None})))
    assert isinstance(read, ChangeEvent)
    assert read.payload == {"b": {"c": None}}
    assert rig.intake.event(record_of(upsert(1, a=None))) == upsert(1)


@virtual
async def test_a_patch_in_a_log_that_was_declared_free_of_them_blocks() -> None:
    rig = Rig()
    intake = Intake(
        decoder=EventDecoder({"books": True}, 4096),
        routes=rig.routes,
        epochs=Epochs(),
        partitioner="unchecked",
        patches=False,
    )
    assert isinstance(intake.event(record_of(upsert(1))), ChangeEvent)
    with pytest.raises(Blocked) as caught:
        intake.event(record_of(patch(1, a=1)))
    assert caught.value.code == "patch-on-compacted"
