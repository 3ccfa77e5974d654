from __future__ import annotations

import msgspec
import pytest

from replicator.model.event import Key
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.position import Partition
from replicator.testing.memory_control import EPOCH_S, MemoryControl
from tests.cli.conftest import Run


@pytest.fixture
def control(control: MemoryControl) -> MemoryControl:
    for number in (1, 2, 3):
        record = RejectedRecord(
            key=b"articles/1",
            value=b'{"op": "\x1b[31m\xff"}',
            headers=(("traceparent", b"00-1"),),
            code="vector-dimension",
            path="vectors.title",
            message="3 instead of 4",
            at=EPOCH_S,
            partition=None if number == 3 else Partition("t/0"),
            offset=None if number == 3 else 70 + number,
            event_key=Key("articles", 1),
        )
        letter = DeadLetter(
            number=number,
            ref=f"letters/{number}",
            state=LetterState.DISCARDED if number == 2 else LetterState.OPEN,
            code=record.code,
            path=record.path,
            message=record.message,
            at=record.at,
            partition=record.partition,
            offset=record.offset,
            event_key=record.event_key,
        )
        control.kept[number] = (letter, record)
    return control


def test_open_letters_are_listed_with_where_they_came_from(
    replicator: Run, control: MemoryControl
) -> None:
    lines = replicator("dead-letters", "list").stdout.splitlines()
    assert len(lines) == 3
    assert lines[1].split()[0] == "1"
    assert "articles/1" in lines[1]
    assert "t/0 at 71" in lines[1]
    assert "vectors.title" in lines[1]
    assert "backfill" in lines[2]


def test_a_state_and_a_page_can_be_asked_for(replicator: Run, control: MemoryControl) -> None:
    def numbers(*arguments: str) -> list[int]:
        told = replicator("dead-letters", "list", "--json", *arguments)
        return [letter["number"] for letter in msgspec.json.decode(told.stdout)]

    assert numbers("--state", "all") == [1, 2, 3]
    assert numbers("--state", "discarded") == [2]
    assert numbers("--limit", "1") == [1]
    assert numbers("--after", "1") == [3]
    assert "--after 1" in replicator("dead-letters", "list", "--limit", "1").stderr


def test_bytes_are_shown_without_letting_them_speak_to_the_terminal(
    replicator: Run, control: MemoryControl
) -> None:
    text = replicator("dead-letters", "show", "1").stdout
    assert r"\x1b[31m\xff" in text
    assert "\x1b" not in text
    assert "header traceparent" in text
    told = msgspec.json.decode(replicator("dead-letters", "show", "1", "--json").stdout)
    assert msgspec.convert(told["value"], bytes) == b'{"op": "\x1b[31m\xff"}'


def test_a_letter_that_is_not_there_is_refused(replicator: Run, control: MemoryControl) -> None:
    result = replicator("dead-letters", "show", "99")
    assert result.exit_code == 2
    assert "error[not-found]" in result.stderr


def test_retry_wants_names_or_all(replicator: Run, control: MemoryControl) -> None:
    assert replicator("dead-letters", "retry").exit_code == 2
    assert replicator("dead-letters", "retry", "1", "--all").exit_code == 2
    result = replicator("dead-letters", "retry", "1")
    assert result.stdout.splitlines()[1].split() == ["1", "settled"]
    result = replicator("dead-letters", "retry", "--all", "--json")
    assert msgspec.json.decode(result.stdout) == {"3": "settled"}


def test_only_what_is_named_is_discarded(replicator: Run, control: MemoryControl) -> None:
    assert replicator("dead-letters", "discard").exit_code == 2
    assert replicator("dead-letters", "discard", "1", "2").stdout == "discarded 1 of 2\n"
    assert control.kept[1][0].state is LetterState.DISCARDED
    assert control.kept[3][0].state is LetterState.OPEN


def test_a_retry_that_leaves_a_letter_open_exits_with_1(
    replicator: Run, control: MemoryControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert replicator("dead-letters", "retry", "1").exit_code == 0

    async def in_vain(_: object) -> dict[int, str]:
        return {1: "settled", 2: "the log holds no event of this key there any more"}

    monkeypatch.setattr(control, "do", in_vain)
    result = replicator("dead-letters", "retry", "--all")
    assert result.exit_code == 1
    assert "no event of this key" in result.stdout
