"""
What every state store must do. Subclass it in a test module and give two fixtures: `reopen`,
which closes the store that is open, if any, and opens the same state again, and `beside`, which
opens it a second time, past the lock that would keep a second process out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from replicator.errors import Fatal
from replicator.model.event import Key
from replicator.model.finding import Difference, Finding
from replicator.model.letter import LetterState, RejectedRecord
from replicator.model.phase import Direction, Phase
from replicator.model.point import ScopedId
from replicator.model.position import Bookmark, Partition, Place
from replicator.model.record import Capture, Chunk, ChunkState, JournalEntry, MigrationRecord
from replicator.ports.state import StateStore

Reopen = Callable[[], Awaitable[StateStore]]
Beside = Callable[[], Awaitable[StateStore]]

P0, P1 = Partition("changes/0"), Partition("changes/1")


def record(**changes: object) -> MigrationRecord:
    """A migration record, but for `changes` the first one that a state keeps."""
    made = MigrationRecord(name="articles", revision=1)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def entry(step: str = "phase") -> JournalEntry:
    """A journal entry with evidence of several types."""
    return JournalEntry(
        at=1.5,
        phase=Phase.BACKFILL,
        direction=Direction.FORWARD,
        step=step,
        message="because",
        evidence={"vector": {"changes/0": 7}, "names": ["a", "ä"], "none": None},
    )


def finding(key: Key, kind: Difference = Difference.MISSING, generation: int = 0) -> Finding:
    """A finding on a key."""
    return Finding(key=key, kind=kind, detail="payload.year", generation=generation, at=2.0)


def rejected(
    key: Key | None,
    offset: int | None,
    partition: Partition | None = P0,
    code: str = "key-missing",
    *,
    direction: Direction = Direction.FORWARD,
    message: str = "no good",
) -> RejectedRecord:
    """A rejected record of the feed; a copied row with `partition` and `offset` None."""
    return RejectedRecord(
        key=b"k",
        value=b"v",
        code=code,
        path="vectors",
        message=message,
        at=3.0,
        partition=partition,
        offset=offset,
        event_key=key,
        direction=direction,
    )


class StateConformance:
    """The suite of `ports.state.StateStore`."""

    @pytest.fixture
    async def state(self, reopen: Reopen) -> StateStore:
        """The state, opened for the first time."""
        return await reopen()

    async def open_numbers(self, state: StateStore) -> list[int]:
        """Numbers of the open letters."""
        return [letter.number for letter in await state.letters(LetterState.OPEN)]

    # -- the migration and its journal ----------------------------------------------------
    async def test_a_new_state_holds_no_migration(self, state: StateStore) -> None:
        assert await state.load() is None
        assert await state.journal(10) == []
        assert await state.positions() == {}
        assert await state.chunks() == []

    async def test_a_saved_record_comes_back_whole_after_reopening(
        self, state: StateStore, reopen: Reopen
    ) -> None:
        saved = record(
            phase=Phase.SWITCHING,
            direction=Direction.REVERSE,
            tries=3,
            capture=Capture(id="c1", positions={P0: 5}, partitions=2, at=9.25),
            fence_vector={P0: 1 << 62},
            back_to=Phase.REPLAY,
            reason="wait for ä",
        )
        await state.save(saved, entry("switch"))

        state = await reopen()

        assert await state.load() == saved
        assert await state.journal(10) == [entry("switch")]

    async def test_a_record_changed_after_it_was_saved_is_not_changed_in_the_state(
        self, state: StateStore
    ) -> None:
        saved = record()
        await state.save(saved, entry())
        saved.phase = Phase.HELD
        saved.fence_vector[P0] = 1
        loaded = await state.load()
        assert loaded == record()

    # -- two processes on one state ---------------------------------------------------------
    async def test_a_record_is_replaced_only_by_the_revision_that_follows_it(
        self, state: StateStore
    ) -> None:
        for number in (0, 2):
            with pytest.raises(Fatal) as conflict:
                await state.save(record(revision=number), entry())
            assert conflict.value.code == "state-conflict"
        await state.save(record(), entry("first"))
        await state.commit({P0: 5}, {})
        for number in (0, 1, 3):
            for write in (state.save, state.begin):
                with pytest.raises(Fatal) as conflict:
                    await write(record(tries=7, revision=number), entry())
                assert conflict.value.code == "state-conflict"
        assert await state.load() == record()
        assert [noted.step for noted in await state.journal(9)] == ["first"]
        assert await state.positions() == {P0: 5}, "a refused attempt forgets nothing"
        await state.save(record(revision=2), entry())

    async def test_of_two_processes_that_change_one_record_the_later_one_loses(
        self, state: StateStore, beside: Beside
    ) -> None:
        await state.save(record(), entry())
        other = await beside()
        await other.save(record(tries=1, revision=2), entry("other"))
        with pytest.raises(Fatal) as conflict:
            await state.save(record(tries=2, revision=2), entry("ours"))
        assert conflict.value.code == "state-conflict"
        assert await other.load() == record(tries=1, revision=2)
        await other.save(record(tries=3, revision=3), entry("other"))

    async def test_a_process_that_was_overtaken_writes_nothing_more(
        self, state: StateStore, beside: Beside
    ) -> None:
        await state.begin(record(), entry("first"))
        [chunk] = [Chunk(0, "a", "x")]
        await state.add_chunks("a", [chunk])
        [number] = await state.add_letters([("r", rejected(Key("a", 1), 4))])
        await state.commit({P0: 5}, {})
        other = await beside()
        await other.commit({P0: 6}, {})
        await state.commit({P0: 7}, {})  # nobody has changed the record yet

        await other.save(record(revision=2), entry("second"))

        for write in (
            lambda: state.commit({P0: 99}, {}),
            lambda: state.note(entry("late")),
            lambda: state.advance(ChunkState(chunk, "z", 1)),
            lambda: state.add_chunks("b", [Chunk(0, "b", "x")]),
            lambda: state.add_findings([finding(Key("a", 1))]),
            lambda: state.clear_findings(None),
            lambda: state.put("report", b"{}"),
            lambda: state.add_letters([("s", rejected(Key("a", 2), 5))]),
            lambda: state.close_letters([number], LetterState.DISCARDED, "a person"),
            state.mark_running,
            state.mark_clean,
        ):
            with pytest.raises(Fatal) as conflict:
                await write()
            assert conflict.value.code == "state-conflict"
        assert await other.positions() == {P0: 7}
        assert [noted.step for noted in await other.journal(9)] == ["first", "second"]
        assert await other.chunks() == [ChunkState(chunk)]
        assert await other.findings(9) == []
        assert await other.get("report") is None
        assert await self.open_numbers(other) == [number]
        await other.commit({P0: 8}, {})

    # -- the journal ----------------------------------------------------------------------
    async def test_the_journal_gives_the_newest_entries_oldest_first(
        self, state: StateStore
    ) -> None:
        for step in "abcd":
            await state.note(entry(step))
        assert [noted.step for noted in await state.journal(3)] == ["b", "c", "d"]
        assert await state.journal(0) == []

    async def test_a_new_attempt_forgets_the_copy_and_keeps_journal_and_closed_letters(
        self, state: StateStore
    ) -> None:
        await state.save(record(), entry("first"))
        await state.commit({P0: 5}, {})
        await state.add_chunks("a", [Chunk(0, "a", "x")])
        await state.add_findings([finding(Key("a", 1))])
        await state.put("report", b"{}")
        numbers = await state.add_letters(
            [(str(n), rejected(Key("a", n), n)) for n in range(3)]
        )
        await state.close_letters(numbers[:1], LetterState.SETTLED, "repair")
        await state.close_letters(numbers[1:2], LetterState.DISCARDED, "a person")

        await state.begin(record(attempt=2, revision=2), entry("second"))

        assert await state.load() == record(attempt=2, revision=2)
        assert await state.positions() == {}
        assert await state.chunks() == []
        assert await state.findings(10) == []
        assert await state.get("report") is None
        assert [letter.number for letter in await state.letters()] == numbers[:2]
        assert [noted.step for noted in await state.journal(10)] == ["first", "second"]

    # -- clean shutdown -------------------------------------------------------------------
    async def test_a_run_that_did_not_say_goodbye_was_unclean(
        self, state: StateStore, reopen: Reopen
    ) -> None:
        assert await state.mark_running(), "nothing was in flight in a new state"
        state = await reopen()
        assert not await state.mark_running()
        await state.mark_clean()
        state = await reopen()
        assert await state.mark_running()

    # -- positions ------------------------------------------------------------------------
    async def test_a_commit_keeps_the_partitions_it_does_not_name(
        self, state: StateStore, reopen: Reopen
    ) -> None:
        await state.commit({P0: 5, P1: 1 << 62}, {})
        await state.commit({P0: 6}, {})
        state = await reopen()
        assert await state.positions() == {P0: 6, P1: 1 << 62}

    async def test_positions_handed_out_are_a_copy(self, state: StateStore) -> None:
        await state.commit({P0: 5}, {})
        (await state.positions())[P0] = 99
        assert await state.positions() == {P0: 5}

    async def test_a_commit_settles_letters_below_the_event_that_heals_them(
        self, state: StateStore
    ) -> None:
        key, other = Key("a", 1), Key("a", "1")
        healed, later, row, foreign = await state.add_letters(
            [
                ("r0", rejected(key, 4)),
                ("r1", rejected(key, 9)),
                ("r2", rejected(key, None, None)),
                ("r3", rejected(other, 5)),
            ]
        )
        await state.commit({P0: 10}, {key: Place(P0, 9)})
        assert await self.open_numbers(state) == [later, foreign]
        assert await state.letter_counts() == {"open": 2, "settled": 2, "discarded": 0}
        assert {letter.number for letter in await state.letters(LetterState.SETTLED)} == {
            healed,
            row,
        }

    async def test_a_letter_is_settled_by_an_event_of_its_scope_alone(
        self, state: StateStore
    ) -> None:
        keys = [Key("a", ScopedId("s", 1)), Key("a", ScopedId("t", 1)), Key("a", 1)]
        numbers = await state.add_letters(
            [(str(n), rejected(key, n)) for n, key in enumerate(keys)]
        )
        assert [letter.event_key for letter in await state.letters_of(keys[:1])] == keys[:1]
        await state.commit({P0: 10}, {keys[0]: Place(P0, 9)})
        assert set(await self.open_numbers(state)) == set(numbers[1:])

    async def test_a_letter_is_not_settled_by_an_event_of_another_partition(
        self, state: StateStore
    ) -> None:
        key = Key("a", 1)
        here, there = await state.add_letters(
            [("r0", rejected(key, 4, P0)), ("r1", rejected(key, 4, P1))]
        )
        await state.commit({}, {key: Place(P1, 900)})
        assert await self.open_numbers(state) == [here]
        await state.commit({}, {key: Place(P0, 5)})
        assert await state.letter_counts() == {"open": 0, "settled": 2, "discarded": 0}
        assert there

    async def test_a_commit_settles_letters_of_one_direction_or_of_both(
        self, state: StateStore
    ) -> None:
        key = Key("a", 1)
        await state.add_letters(
            [
                ("r0", rejected(key, 4)),
                ("r1", rejected(key, None, None)),
                ("r2", rejected(key, 5, direction=Direction.REVERSE)),
            ]
        )
        await state.commit({}, {key: Place(P0, 9)}, direction=Direction.REVERSE)
        assert [letter.direction for letter in await state.letters(LetterState.OPEN)] == [
            Direction.FORWARD,
            Direction.FORWARD,
        ]
        await state.add_letters([("r3", rejected(key, 7, direction=Direction.REVERSE))])
        await state.commit({}, {key: Place(P0, 9)}, direction=Direction.FORWARD)
        assert await state.letter_counts(Direction.FORWARD) == {
            "open": 0,
            "settled": 2,
            "discarded": 0,
        }
        assert await state.letter_counts(Direction.REVERSE) == {
            "open": 1,
            "settled": 1,
            "discarded": 0,
        }
        await state.commit({}, {key: Place(P0, 9)})
        assert await self.open_numbers(state) == []

    async def test_bookmarks_are_committed_with_positions_and_forgotten_with_them(
        self, state: StateStore, reopen: Reopen
    ) -> None:
        zero = Bookmark(offset=4, at_ms=1 << 40, digest="d0")
        one = Bookmark(offset=1 << 62, at_ms=7, digest="d1")
        await state.commit({P0: 5, P1: (1 << 62) + 1}, {}, {P0: zero, P1: one})
        later = Bookmark(offset=5, at_ms=9, digest="d2")
        await state.commit({P0: 6}, {}, {P0: later})
        await state.commit({P0: 7}, {})  # a gap was passed, and no record
        state = await reopen()
        assert await state.bookmarks() == {P0: later, P1: one}
        await state.begin(record(attempt=2), entry())
        assert await state.bookmarks() == {}

    async def test_a_commit_does_not_touch_what_a_person_discarded(
        self, state: StateStore
    ) -> None:
        [number] = await state.add_letters([("r", rejected(Key("a", 1), 4))])
        await state.close_letters([number], LetterState.DISCARDED, "a person")
        await state.commit({P0: 10}, {Key("a", 1): Place(P0, 9)})
        assert await state.letter_counts() == {"open": 0, "settled": 0, "discarded": 1}

    # -- the copy -------------------------------------------------------------------------
    async def test_chunks_come_back_by_collection_and_number_with_their_progress(
        self, state: StateStore, reopen: Reopen
    ) -> None:
        b, a0, a1 = Chunk(0, "b", "[3]"), Chunk(0, "a", "[1]"), Chunk(1, "a", "[2]")
        await state.add_chunks("b", [b])
        await state.add_chunks("a", [a1, a0])
        await state.advance(ChunkState(a1, "cursor ä", 256))
        await state.advance(ChunkState(b, None, 7, done=True))
        state = await reopen()
        assert await state.chunks() == [
            ChunkState(a0),
            ChunkState(a1, "cursor ä", 256),
            ChunkState(b, None, 7, done=True),
        ]

    async def test_a_collection_is_split_once(self, state: StateStore) -> None:
        await state.add_chunks("a", [Chunk(0, "a", "[1]")])
        with pytest.raises(AssertionError):
            await state.add_chunks("a", [Chunk(1, "a", "[2]")])
        assert await state.chunks() == [ChunkState(Chunk(0, "a", "[1]"))]

    # -- verification ---------------------------------------------------------------------
    async def test_a_finding_replaces_the_older_one_of_its_key(self, state: StateStore) -> None:
        one, two = Key("a", 1), Key("a", "1")
        await state.add_findings([finding(one), finding(two)])
        await state.add_findings([finding(one, Difference.DIFFERENT, generation=1)])
        found = [row for _, row in await state.findings(10)]
        assert found == [finding(one, Difference.DIFFERENT, generation=1), finding(two)]
        assert await state.finding_counts() == {"missing": 1, "extra": 0, "different": 1}

    async def test_findings_are_paged_by_number(self, state: StateStore) -> None:
        await state.add_findings([finding(Key("a", n)) for n in range(5)])
        page = await state.findings(2)
        seen = []
        while page:
            seen += [row.key.id for _, row in page]
            page = await state.findings(2, after=page[-1][0])
        assert seen == [0, 1, 2, 3, 4]

    async def test_findings_are_cleared_by_key_or_all(self, state: StateStore) -> None:
        keys = [Key("a", "x/ä"), Key("a", (1 << 64) - 1), Key("b", ScopedId("s", 1))]
        keys += [Key("b", 1), Key("b", ScopedId("t", 1)), Key("b", ScopedId("s", "1"))]
        await state.add_findings([finding(key) for key in keys])
        await state.clear_findings(keys[:3])
        assert [row.key for _, row in await state.findings(10)] == keys[3:]
        await state.clear_findings(keys[4:])
        await state.clear_findings([])
        assert len(await state.findings(10)) == 1
        await state.clear_findings(None)
        assert await state.findings(10) == []

    # -- small documents ------------------------------------------------------------------
    async def test_a_document_is_replaced_and_survives(
        self, state: StateStore, reopen: Reopen
    ) -> None:
        await state.put("report", b"one")
        await state.put("report", b"\x00two")
        state = await reopen()
        assert await state.get("report") == b"\x00two"
        assert await state.get("another") is None

    # -- dead letters ---------------------------------------------------------------------
    async def test_a_letter_comes_back_whole(self, state: StateStore, reopen: Reopen) -> None:
        [number] = await state.add_letters([("dlq/0/17", rejected(Key("a", "x"), 4))])
        state = await reopen()
        letter = await state.letter(number)
        assert letter is not None
        assert (letter.number, letter.ref, letter.state) == (
            number,
            "dlq/0/17",
            LetterState.OPEN,
        )
        assert (letter.code, letter.path, letter.message) == (
            "key-missing",
            "vectors",
            "no good",
        )
        assert (letter.at, letter.partition, letter.offset) == (3.0, P0, 4)
        assert letter.event_key == Key("a", "x")
        assert await state.letter(number + 1) is None

    async def test_a_letter_is_indexed_whatever_its_texts_hold(self, state: StateStore) -> None:
        odd = rejected(Key("\ud800", 1 << 70), 4)
        [number] = await state.add_letters([("\udc80", odd)])
        letter = await state.letter(number)
        assert letter is not None
        assert letter.event_key == odd.event_key
        assert await state.letters_of([Key("\ud800", 1 << 70)]) == [letter]

    async def test_a_record_rejected_again_after_a_restart_keeps_its_letter(
        self, state: StateStore
    ) -> None:
        first = await state.add_letters([("r1", rejected(Key("a", 1), 4))])
        again = await state.add_letters(
            [("r2", rejected(Key("a", 1), 4)), ("r3", rejected(Key("a", 1), 4, P1))]
        )
        assert again[0] == first[0]
        assert again[1] != first[0], "another partition is another record"
        letter = await state.letter(first[0])
        assert letter is not None
        assert letter.ref == "r1"

    async def test_a_settled_letter_is_reopened_by_the_same_record_and_a_discarded_one_is_not(
        self, state: StateStore
    ) -> None:
        settled, discarded = await state.add_letters(
            [("r1", rejected(Key("a", 1), 4)), ("r2", rejected(Key("a", 2), 5))]
        )
        await state.close_letters([settled], LetterState.SETTLED, "repair")
        await state.close_letters([discarded], LetterState.DISCARDED, "a person")
        again = await state.add_letters(
            [
                ("r3", rejected(Key("a", 1), 4, code="vector-dimension")),
                ("r4", rejected(Key("a", 2), 5)),
            ]
        )
        assert again == [settled, discarded]
        [letter] = await state.letters(LetterState.OPEN)
        assert (letter.number, letter.ref, letter.code) == (settled, "r3", "vector-dimension")

    async def test_a_place_in_the_log_is_another_record_in_the_next_attempt(
        self, state: StateStore
    ) -> None:
        await state.begin(record(), entry())
        [old] = await state.add_letters([("r1", rejected(Key("a", 1), 4))])
        await state.close_letters([old], LetterState.DISCARDED, "a person")
        await state.begin(record(attempt=2, revision=2), entry())
        [new] = await state.add_letters([("r2", rejected(Key("a", 1), 4))])
        assert new != old
        assert await self.open_numbers(state) == [new]

    async def test_a_copied_row_rejected_again_keeps_its_open_letter(
        self, state: StateStore
    ) -> None:
        row = rejected(Key("a", 1), None, None)
        first = await state.add_letters([("r1", row), ("r2", row)])
        assert first[0] == first[1]
        await state.close_letters(first, LetterState.SETTLED, "repair")
        assert await state.add_letters([("r3", row)]) != first[:1]

    async def test_rows_without_a_key_are_each_their_own_letter(
        self, state: StateStore
    ) -> None:
        rows = [rejected(None, None, None, message=f"no good (line {n})") for n in (1, 2)]
        one, two = await state.add_letters([("r1", rows[0]), ("r2", rows[1])])
        assert one != two

    async def test_a_row_without_a_key_that_is_kept_twice_is_one_letter(
        self, state: StateStore
    ) -> None:
        row = rejected(None, None, None)
        [number] = await state.add_letters([("r1", row)])
        assert await state.add_letters([("r2", row)]) == [number]
        await state.close_letters([number], LetterState.SETTLED, "a person")
        assert await state.add_letters([("r3", row)]) == [number]
        [letter] = await state.letters(LetterState.OPEN)
        assert letter.ref == "r3"
        await state.close_letters([number], LetterState.DISCARDED, "a person")
        assert await state.add_letters([("r4", row)]) == [number]
        assert await self.open_numbers(state) == []
        await state.begin(record(attempt=2), entry())
        assert await state.add_letters([("r5", row)]) != [number]

    async def test_letters_are_paged_by_number_and_state(self, state: StateStore) -> None:
        numbers = await state.add_letters([(str(n), rejected(None, n)) for n in range(5)])
        await state.close_letters(numbers[1:2], LetterState.DISCARDED, "a person")
        page = await state.letters(LetterState.OPEN, 2)
        assert [letter.number for letter in page] == [numbers[0], numbers[2]]
        page = await state.letters(LetterState.OPEN, 9, after=numbers[2])
        assert [letter.number for letter in page] == numbers[3:]
        assert [letter.number for letter in await state.letters(limit=2)] == numbers[:2]

    async def test_only_open_letters_of_the_keys_asked_for_are_given(
        self, state: StateStore
    ) -> None:
        one, two, _ = await state.add_letters(
            [
                ("r1", rejected(Key("a", 1), 1)),
                ("r2", rejected(Key("a", 1), 2)),
                ("r3", rejected(Key("b", 1), 3)),
            ]
        )
        await state.close_letters([one], LetterState.SETTLED, "retry")
        found = await state.letters_of([Key("a", 1), Key("c", 1)])
        assert [letter.number for letter in found] == [two]

    async def test_closing_says_how_many_were_open(self, state: StateStore) -> None:
        numbers = await state.add_letters([(str(n), rejected(None, n)) for n in range(3)])
        assert await state.close_letters(numbers[:2], LetterState.DISCARDED, "a person") == 2
        assert await state.close_letters([*numbers, 999], LetterState.SETTLED, "retry") == 1
        assert await state.letter_counts() == {"open": 0, "settled": 1, "discarded": 2}

    # -- concurrency ----------------------------------------------------------------------
    async def test_calls_from_many_tasks_do_not_mix(self, state: StateStore) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(40):
                partition = Partition(f"changes/{n}")
                group.create_task(state.commit({partition: n}, {}), name=f"commit {n}")
                group.create_task(state.add_letters([(str(n), rejected(None, n))]))
                group.create_task(state.note(entry(str(n))))
        assert await state.positions() == {Partition(f"changes/{n}"): n for n in range(40)}
        assert len(await state.letters()) == 40
        assert len(await state.journal(100)) == 40

    async def test_a_cancelled_call_leaves_the_store_usable(self, state: StateStore) -> None:
        for steps in range(12):
            kept = await state.load()
            made = record(tries=steps, revision=kept.revision + 1 if kept else 1)
            task = asyncio.create_task(state.save(made, entry(str(steps))))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            kept = await state.load()
            noted = await state.journal(100)
            # Both or neither: the record and its journal entry are one transaction.
            assert (kept.tries if kept else None) == (int(noted[-1].step) if noted else None)
        following = kept.revision + 1 if kept else 1
        await state.save(record(tries=99, revision=following), entry("99"))
        loaded = await state.load()
        assert loaded is not None
        assert loaded.tries == 99
