"""A dead letter is kept before its record counts as done, and kept once."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from replicator.codecs.events import encode
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key
from replicator.model.letter import LetterState, RejectedRecord
from replicator.model.phase import Direction
from replicator.model.position import Place, Record
from replicator.stream import letters as module
from replicator.testing.faults import Fault, Faults
from tests.stream.rig import METRICS, Rig, key, now, patch, upsert, virtual

BAD = Rejected("field-type", "not a number", "payload.year")


def record_of(rig: Rig, offset: int, number: int = 1) -> Record:
    return Record(
        partition=rig.first,
        offset=offset,
        key=b"books/%d" % number,
        value=b"bytes",
        at_ms=7,
        headers=(("trace", b"x"),),
    )


def rejected(rig: Rig, offset: int, number: int = 1) -> RejectedRecord:
    return rig.letters.of_record(record_of(rig, offset, number), BAD, key(number))


@virtual
async def test_a_letter_holds_the_records_bytes_and_the_reason() -> None:
    rig = Rig()
    await rig.letters.keep([rejected(rig, 3)])
    [kept] = rig.kept.kept
    assert (kept.key, kept.value, kept.headers) == (b"books/1", b"bytes", (("trace", b"x"),))
    assert (kept.code, kept.path, kept.message) == (
        "field-type",
        "payload.year",
        "not a number",
    )
    letter = await rig.letter()
    assert (letter.partition, letter.offset, letter.event_key) == (rig.first, 3, key(1))
    assert letter.state is LetterState.OPEN
    assert (await rig.letters.log.load(letter.ref)) == kept


@virtual
async def test_a_letter_that_cannot_be_kept_is_waited_for_and_said() -> None:
    rig = Rig()
    rig.kept.faults = Faults(Random(0), {Fault.LETTERS_AWAY: 1.0})
    keeping = asyncio.create_task(rig.letters.keep([rejected(rig, 3)]))
    await asyncio.sleep(10)
    assert not keeping.done()
    assert rig.letters.trouble is not None
    assert rig.letters.trouble.code == "dead-letters-unavailable"
    assert rig.letters.open == 0
    rig.kept.faults.calm()
    await keeping
    assert rig.letters.trouble is None
    assert rig.letters.open == 1
    assert now() < 13


@virtual
async def test_only_keys_with_open_letters_are_of_concern() -> None:
    rig = Rig()
    assert not rig.letters.concerns(key(1))
    await rig.letters.keep([rejected(rig, 3)])
    assert rig.letters.concerns(key(1))
    assert not rig.letters.concerns(key(2))


@virtual
async def test_a_key_without_an_open_letter_is_of_no_concern_once_all_are_settled() -> None:
    rig = Rig()
    await rig.letters.keep([rejected(rig, 3)])
    await rig.state.commit({}, {key(1): Place(rig.first, 4)})
    await rig.letters.recount()
    assert rig.letters.open == 0
    assert not rig.letters.concerns(key(1))


@virtual
async def test_letters_of_an_earlier_process_are_known_after_loading() -> None:
    rig, later = Rig(), Rig()
    await rig.letters.keep([rejected(rig, offset, offset) for offset in range(3)])
    letters = module.DeadLetters(
        later.kept.attach(), rig.state, metrics=METRICS, clock=rig.wall, backoff_max_s=1.0
    )
    await letters.load()
    assert letters.open == 3
    assert letters.concerns(key(2))
    assert not letters.concerns(key(7))


@virtual
async def test_with_more_keys_than_are_remembered_every_key_is_of_concern() -> None:
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(module, "_KEYS_MAX", 2)
        rig = Rig()
        await rig.letters.keep([rejected(rig, offset, offset) for offset in range(3)])
        assert rig.letters.concerns(key(99))
        await rig.letters.load()
        assert rig.letters.concerns(key(99))


@virtual
async def test_a_row_that_is_repeated_after_a_crash_adds_no_second_letter() -> None:
    rig = Rig()
    row = rig.letters.of_row(key(1), BAD, b"raw", "line 7")
    await rig.letters.keep_rows([row])
    await rig.letters.keep_rows([row, rig.letters.of_row(key(2), BAD, None, "")])
    assert len(rig.kept.kept) == 2
    found = await rig.state.letters()
    assert [letter.event_key for letter in found] == [key(1), key(2)]
    assert found[0].message == "not a number (line 7)"


@virtual
async def test_a_row_is_kept_beside_the_letter_of_a_record_of_the_same_key() -> None:
    rig = Rig()
    await rig.letters.keep([rejected(rig, 3)])
    await rig.letters.keep_rows([rig.letters.of_row(key(1), BAD, b"raw", "")])
    assert [letter.offset for letter in await rig.state.letters()] == [3, None]


@virtual
async def test_a_row_without_a_readable_key_is_kept_all_the_same() -> None:
    rig = Rig()
    await rig.letters.keep_rows([rig.letters.of_row(None, BAD, b"raw", "line 7")])
    assert rig.letters.open == 1
    assert not rig.letters.concerns(Key("books", 7))


@virtual
async def test_a_letter_of_a_newer_image_is_known_once_the_letters_can_be_read() -> None:
    rig = Rig()

    def letter(offset: int, event: ChangeEvent) -> RejectedRecord:
        raw_key, value = encode(event)
        record = Record(rig.first, offset, raw_key, value, 7)
        return rig.letters.of_record(record, BAD, key(1))

    versioned = patch(1, n=1)
    versioned.version = 9
    await rig.letters.keep([letter(3, upsert(1, version=5)), letter(4, versioned)])

    async def newer(version: int, before: int = 10) -> bool:
        return await rig.letters.hold_newer(key(1), version, rig.first, before)

    assert [await newer(version) for version in (4, 5, 6)] == [True, False, False]
    assert not await newer(4, before=3), "what lies behind it is no business of its"
    rig.kept.faults = Faults(Random(0), {Fault.LETTERS_AWAY: 1.0})
    asking = asyncio.create_task(newer(4))
    await asyncio.sleep(10)
    assert not asking.done()
    assert rig.letters.trouble is not None
    rig.kept.faults = Faults()
    assert await asking
    assert rig.letters.trouble is None
    rig.kept.kept.clear()
    assert await newer(9), "nobody can tell what the lost bytes said"


@virtual
async def test_the_version_of_a_straggler_holds_up_no_image_of_the_epoch_in_force() -> None:
    rig = Rig()
    raw_key, value = encode(upsert(1, version=9))
    late = Rejected("epoch-stale", "written in epoch 0, after the switch to epoch 1", "epoch")
    record = Record(rig.first, 3, raw_key, value, 7)
    await rig.letters.keep([rig.letters.of_record(record, late, key(1))])
    assert not await rig.letters.hold_newer(key(1), 4, rig.first, 10)


@virtual
async def test_a_count_from_before_a_letter_does_not_hide_it_by_arriving_late() -> None:
    rig = Rig()
    right, release = rig.letters._state.letter_counts, asyncio.Event()

    async def late(direction: Direction | None = None) -> dict[str, int]:
        rig.letters._state.letter_counts = right  # type: ignore[method-assign]
        counted = await right(direction)
        await release.wait()
        return counted

    rig.letters._state.letter_counts = late  # type: ignore[method-assign]
    counting = asyncio.create_task(rig.letters.recount())
    await asyncio.sleep(1)
    keeping = asyncio.create_task(rig.letters.keep([rejected(rig, 3)]))
    await asyncio.sleep(1)
    release.set()
    await asyncio.gather(counting, keeping)
    assert rig.letters.open == rig.letters.open_in(Direction.FORWARD) == 1
