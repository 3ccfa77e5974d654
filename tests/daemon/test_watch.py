"""The log tells each trouble once when it begins and once when it ends."""

from __future__ import annotations

import msgspec

from replicator.daemon.watch import Line, Watch
from replicator.model.finding import Blocker
from replicator.model.phase import Phase
from replicator.model.status import Status, StreamStatus
from replicator.testing.memory_control import streaming_status

AWAY = Blocker("target-unavailable", "connection refused", "look at it")
BLOCKED = Blocker("log-truncated", "t/0 begins at 9", "start anew")


def status(*reasons: Blocker, phase: Phase = Phase.STREAMING, letters: int = 0) -> Status:
    return msgspec.structs.replace(
        streaming_status(),
        phase=phase,
        not_ready=list(reasons),
        stream=StreamStatus(dead_letters=letters),
    )


def test_an_outage_is_told_when_it_begins_and_when_it_ends() -> None:
    watch = Watch()
    assert list(watch.look(status(), 0.0)) == []
    told: dict[str, object] = {"code": AWAY.code, "reason": AWAY.message, "hint": AWAY.hint}
    assert list(watch.look(status(AWAY), 1.0)) == [Line("warning", "trouble", told)]
    again = Blocker(AWAY.code, "another message of it")
    assert list(watch.look(status(again), 2.0)) == [], "once for each code"
    over = {"code": AWAY.code, "lasted_s": 7.5}
    assert list(watch.look(status(), 8.5)) == [Line("info", "trouble over", over)]
    assert list(watch.look(status(), 9.0)) == []


def test_what_needs_a_person_is_an_error() -> None:
    watch = Watch()
    [line] = watch.look(status(BLOCKED, phase=Phase.BLOCKED), 0.0)
    assert (line.level, line.fields["code"]) == ("error", "log-truncated")


def test_a_stream_that_only_starts_is_no_trouble() -> None:
    assert list(Watch().look(status(Blocker("phase", "the stream is starting")), 0.0)) == []


def test_dead_letters_are_told_as_they_come_and_once_they_are_gone() -> None:
    watch = Watch()
    [line] = watch.look(status(letters=2), 0.0)
    assert (line.event, line.fields) == ("dead letters", {"open": 2, "new": 2})
    assert list(watch.look(status(letters=2), 1.0)) == []
    [line] = watch.look(status(letters=5), 2.0)
    assert line.fields == {"open": 5, "new": 3}
    assert list(watch.look(status(letters=1), 3.0)) == []
    [line] = watch.look(status(), 4.0)
    assert line.event == "dead letters over"
