from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from replicator.model.event import ChangeEvent, Key, Op
from replicator.stream.coalesce import Coalescer, Entry, VersionWindow
from replicator.stream.watermark import Ticket
from tests.stream.strategies import State, Story, effect, events_of

A, B, C = (Key("articles", n) for n in (1, 2, 3))
EVERYTHING = 1 << 60


def event(op: Op, key: Key = A, **fields: object) -> ChangeEvent:
    return ChangeEvent(op=op, key=key, ts_ms=1, **fields)  # type: ignore[arg-type]


class Queue:
    """A coalescer that counts its own offsets and times."""

    def __init__(self) -> None:
        self.pending = Coalescer()
        self.tickets: list[Ticket] = []

    def add(self, event: ChangeEvent, size: int = 10) -> bool:
        offset = len(self.tickets)
        self.tickets.append(Ticket(offset + 1))
        return self.pending.add(
            event, self.tickets[-1], size=size, at_ms=1000 + offset, now=float(offset)
        )

    def take(
        self,
        records_max: int = EVERYTHING,
        bytes_max: int = EVERYTHING,
        blocked: Collection[Key] = frozenset(),
    ) -> list[Entry]:
        return self.pending.take(records_max, bytes_max, blocked)


def test_the_last_event_of_a_key_wins() -> None:
    queue = Queue()
    queue.add(event(Op.UPSERT, payload={"a": 1}))
    queue.add(event(Op.UPSERT, payload={"a": 2}))
    [entry] = queue.take()
    assert entry.event.payload == {"a": 2}


def test_an_entry_settles_every_record_it_stands_for() -> None:
    queue = Queue()
    for value in range(3):
        queue.add(event(Op.UPSERT, payload={"a": value}))
    [entry] = queue.take()
    assert entry.tickets == queue.tickets
    assert entry.records == 3


def test_a_delete_waiting_for_its_turn_is_not_undone_by_a_patch() -> None:
    queue = Queue()
    queue.add(event(Op.UPSERT, payload={"a": 1}))
    queue.add(event(Op.DELETE))
    queue.add(event(Op.PATCH, set={"a": 2}))
    [entry] = queue.take()
    assert entry.event.op is Op.DELETE


def test_a_folded_key_keeps_its_place_so_that_a_hot_key_does_not_starve_itself() -> None:
    queue = Queue()
    queue.add(event(Op.UPSERT, A))
    queue.add(event(Op.UPSERT, B))
    queue.add(event(Op.UPSERT, A))
    assert [entry.key for entry in queue.take()] == [A, B]


def test_a_blocked_key_is_left_in_its_place_and_the_others_go() -> None:
    queue = Queue()
    for key in (A, B, C):
        queue.add(event(Op.UPSERT, key))
    assert [entry.key for entry in queue.take(blocked={A, C})] == [B]
    assert [entry.key for entry in queue.take()] == [A, C]


def test_a_batch_ends_before_the_entry_that_would_overfill_it() -> None:
    queue = Queue()
    for key, size in ((A, 40), (B, 40), (C, 1)):
        queue.add(event(Op.UPSERT, key), size)
    assert [entry.key for entry in queue.take(bytes_max=79)] == [A]
    assert [entry.key for entry in queue.take(bytes_max=41)] == [B, C]


def test_an_entry_larger_than_a_batch_goes_alone() -> None:
    queue = Queue()
    queue.add(event(Op.UPSERT, A), 100)
    queue.add(event(Op.UPSERT, B), 1)
    assert [entry.key for entry in queue.take(bytes_max=10)] == [A]


def test_a_batch_holds_no_more_keys_than_it_may() -> None:
    queue = Queue()
    for key in (A, B, C):
        queue.add(event(Op.UPSERT, key))
    assert [entry.key for entry in queue.take(records_max=2)] == [A, B]
    assert queue.take(records_max=0) == []


def test_what_is_pending_is_counted_in_keys_records_and_bytes() -> None:
    queue = Queue()
    queue.add(event(Op.UPSERT, A), 5)
    queue.add(event(Op.UPSERT, A), 7)
    queue.add(event(Op.UPSERT, B), 1)
    pending = queue.pending
    assert (len(pending), pending.records, pending.bytes) == (2, 3, 13)
    assert (pending.oldest_at, pending.oldest_at_ms) == (0.0, 1000)
    queue.take(records_max=1)
    assert (len(pending), pending.records, pending.bytes) == (1, 1, 1)
    assert (pending.oldest_at, pending.oldest_at_ms) == (2.0, 1002)
    queue.take()
    assert (len(pending), pending.records, pending.bytes) == (0, 0, 0)
    assert (pending.oldest_at, pending.oldest_at_ms) == (None, None)


def test_a_key_can_be_taken_out_by_name() -> None:
    queue = Queue()
    queue.add(event(Op.UPSERT, A), 5)
    queue.add(event(Op.UPSERT, B), 7)
    entry = queue.pending.pop(A)
    assert entry is not None
    assert entry.key == A
    assert queue.pending.pop(A) is None
    assert queue.pending.get(A) is None
    assert (len(queue.pending), queue.pending.records, queue.pending.bytes) == (1, 1, 7)


def test_an_older_version_does_not_replace_a_newer_one_that_waits() -> None:
    queue = Queue()
    queue.add(event(Op.UPSERT, payload={"a": "new"}, version=5))
    assert not queue.add(event(Op.UPSERT, payload={"a": "old"}, version=4))
    assert not queue.add(event(Op.DELETE, version=4))
    [entry] = queue.take()
    assert entry.event.payload == {"a": "new"}
    assert entry.tickets == queue.tickets  # should the newer be refused, they are read again
    assert (entry.whole, entry.size) == (1, 30)
    assert (queue.pending.records, queue.pending.bytes) == (0, 0)


def test_the_same_version_again_is_the_same_event_delivered_twice_and_is_applied() -> None:
    queue = Queue()
    queue.add(event(Op.UPSERT, version=5))
    assert queue.add(event(Op.UPSERT, version=5))


def test_a_patch_is_never_discarded_for_its_version() -> None:
    queue = Queue()
    queue.add(event(Op.UPSERT, payload={"a": 1}, version=5))
    assert queue.add(event(Op.PATCH, set={"b": 2}, version=3))
    [entry] = queue.take()
    assert entry.event.payload == {"a": 1, "b": 2}
    assert entry.event.version == 5


def test_an_event_without_a_version_ends_the_history_of_its_key() -> None:
    queue = Queue()
    queue.add(event(Op.UPSERT, version=5))
    assert queue.add(event(Op.DELETE))
    assert queue.add(event(Op.UPSERT, version=4))
    [entry] = queue.take()
    assert (entry.event.op, entry.event.version, entry.anew) == (Op.UPSERT, 4, True)


def test_the_version_of_a_patch_orders_nothing() -> None:
    queue = Queue()
    queue.add(event(Op.PATCH, set={"b": 2}, version=9))
    assert queue.add(event(Op.UPSERT, payload={"a": 1}, version=4))
    assert queue.add(event(Op.PATCH, set={"c": 3}, version=7))
    assert queue.add(event(Op.UPSERT, payload={"a": 5}, version=5))
    [entry] = queue.take()
    assert (entry.event.payload, entry.event.version, entry.anew) == ({"a": 5}, 5, False)


def test_taking_past_many_blocked_keys_costs_one_look_at_each() -> None:
    class Blocked(frozenset[Key]):
        looks = 0

        def __contains__(self, key: object) -> bool:
            Blocked.looks += 1
            return super().__contains__(key)

    queue = Queue()
    for number in range(2000):
        queue.add(event(Op.UPSERT, Key("articles", number)))
    blocked = Blocked(Key("articles", number) for number in range(1000))
    assert len(queue.take(records_max=10, blocked=blocked)) == 10
    assert Blocked.looks <= 1011


def test_emptying_a_long_queue_batch_by_batch_takes_time_in_proportion() -> None:
    def seconds_for(keys: int) -> float:
        queue = Queue()
        for number in range(keys):
            queue.add(event(Op.UPSERT, Key("articles", number)))
        start = time.process_time()
        while queue.take(records_max=1):
            pass
        return time.process_time() - start

    small, large = (min(seconds_for(n) for _ in range(3)) for n in (2_000, 20_000))
    # Ten times the keys: 10 times the time, not 100. What lies between is room for noise.
    assert large < 40 * small


commands = st.lists(
    st.tuples(st.just("add"), events_of(st.sampled_from([A, B, C])))
    | st.tuples(
        st.just("take"),
        st.tuples(st.integers(0, 3), st.integers(1, 60), st.sets(st.sampled_from([A, B, C]))),
    ),
    max_size=25,
)


@settings(max_examples=300)
@given(commands=commands)
def test_every_record_is_taken_once_and_each_key_ends_where_its_events_lead(
    commands: list[tuple[str, Any]],
) -> None:
    queue = Queue()
    stories: dict[Key, Story] = {}
    written: dict[Key, State] = {}
    taken: list[Ticket] = []

    def write(entries: list[Entry]) -> None:
        assert len({entry.key for entry in entries}) == len(entries)
        for entry in entries:
            written[entry.key] = effect(written.get(entry.key), entry.event)
            offsets = [ticket.next_offset for ticket in entry.tickets]
            assert offsets == sorted(offsets)
            taken.extend(entry.tickets)
            # What is durable the lane knows, and the coalescer does not.
            stories[entry.key].version = None

    for name, argument in [*commands, ("take", (EVERYTHING, EVERYTHING, set()))]:
        if isinstance(argument, ChangeEvent):
            story = stories.setdefault(argument.key, Story())
            assert queue.add(argument) is story.read(argument)
        else:
            assert name == "take"
            records_max, bytes_max, blocked = argument
            entries = queue.take(records_max, bytes_max, blocked)
            assert not blocked.intersection(entry.key for entry in entries)
            assert len(entries) <= records_max
            write(entries)

    assert written == {key: story.state for key, story in stories.items()}
    assert sorted(t.next_offset for t in taken) == [t.next_offset for t in queue.tickets]
    assert len(queue.pending) == queue.pending.bytes == queue.pending.records == 0


def test_an_event_older_than_what_was_written_is_stale() -> None:
    window = VersionWindow(10)
    window.applied(event(Op.DELETE, version=5))
    assert window.is_stale(event(Op.UPSERT, version=4))
    assert not window.is_stale(event(Op.UPSERT, version=5))
    assert not window.is_stale(event(Op.UPSERT))
    assert not window.is_stale(event(Op.PATCH, version=4))
    assert not window.is_stale(event(Op.UPSERT, B, version=4))


def test_a_patch_leaves_the_window_as_it_is() -> None:
    window = VersionWindow(10)
    window.applied(event(Op.PATCH, version=9))
    assert len(window) == 0
    window.applied(event(Op.UPSERT, version=5))
    for version in (3, 9, None):
        window.applied(event(Op.PATCH, version=version))
    assert window.of(A) == 5


def test_what_was_refused_orders_nothing_but_may_end_the_history() -> None:
    window = VersionWindow(10)
    window.applied(event(Op.UPSERT, version=5))
    window.refused(event(Op.UPSERT, version=9))
    window.refused(event(Op.PATCH))
    assert window.of(A) == 5
    window.refused(event(Op.UPSERT))
    assert window.of(A) is None


def test_an_image_or_a_delete_without_a_version_ends_the_history_of_its_key() -> None:
    window = VersionWindow(10)
    for op in (Op.UPSERT, Op.DELETE):
        window.applied(event(Op.UPSERT, version=5))
        window.applied(event(op))
        assert not window.is_stale(event(Op.UPSERT, version=0))


def test_the_window_forgets_the_key_that_was_written_longest_ago() -> None:
    window = VersionWindow(2)
    for key in (A, B, A, C):
        window.applied(event(Op.UPSERT, key, version=5))
    assert len(window) == 2
    assert window.is_stale(event(Op.UPSERT, A, version=4))
    assert not window.is_stale(event(Op.UPSERT, B, version=4))


def test_a_key_without_versions_takes_no_room_in_the_window() -> None:
    window = VersionWindow(1)
    window.applied(event(Op.UPSERT, A, version=5))
    window.applied(event(Op.UPSERT, B))
    assert len(window) == 1
    assert window.is_stale(event(Op.UPSERT, A, version=4))


def test_a_window_of_no_size_remembers_nothing() -> None:
    window = VersionWindow(0)
    window.applied(event(Op.UPSERT, version=5))
    assert not window.is_stale(event(Op.UPSERT, version=4))
