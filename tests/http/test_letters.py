from __future__ import annotations

from typing import cast

import aiohttp
import pytest

from replicator.errors import Refused
from replicator.http.client import HttpControl
from replicator.http.server import HttpServer
from replicator.model.command import DiscardLetters, RetryLetters
from replicator.model.event import Key
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.position import Partition
from replicator.testing.memory_control import EPOCH_S, MemoryControl


@pytest.fixture
def control() -> MemoryControl:
    control = MemoryControl()
    for number in range(1, 1204):
        readable = number % 2 == 0
        partition = Partition("t/0")
        letter = DeadLetter(
            number=number,
            ref=f"t.dead-letters/0/{number}",
            state=LetterState.OPEN,
            code="vector-dimension",
            path="vectors.title",
            message="3 instead of 4",
            at=EPOCH_S,
            partition=partition,
            offset=number,
            event_key=Key("articles", number) if readable else None,
        )
        record = RejectedRecord(
            key=b"articles/1" if readable else None,
            value=b"\x00\xff",
            headers=(("traceparent", b"\x01"),),
            code=letter.code,
            path=letter.path,
            message=letter.message,
            at=EPOCH_S,
            partition=partition,
            offset=number,
            event_key=letter.event_key,
        )
        control.kept[number] = (letter, record)
    return control


async def test_letters_are_listed_over_as_many_pages_as_there_are(
    remote: HttpControl, control: MemoryControl
) -> None:
    expected = [letter for letter, _ in control.kept.values()]
    assert await remote.letters(None, 5000, 0) == expected
    assert await remote.letters(LetterState.OPEN, 1100, 3) == expected[3:1103]
    assert await remote.letters(LetterState.SETTLED, 10, 0) == []


async def test_a_page_is_bounded(server: HttpServer, http: aiohttp.ClientSession) -> None:
    url = f"{server.url}/v1/dead-letters"
    async with http.get(url) as response:
        assert len((await response.json())["letters"]) == 100
    async with http.get(url, params={"limit": "1001"}) as response:
        assert response.status == 400
    async with http.get(url, params={"state": "lost"}) as response:
        assert response.status == 400
        assert "open, settled, discarded" in await response.text()


async def test_bytes_that_are_no_text_come_back_as_they_were(
    remote: HttpControl, control: MemoryControl
) -> None:
    assert await remote.letter_bytes(1) == control.kept[1][1]
    assert await remote.letter_bytes(2) == control.kept[2][1]
    with pytest.raises(Refused) as caught:
        await remote.letter_bytes(9999)
    assert caught.value.code == "not-found"


async def test_only_what_is_named_is_discarded_and_only_what_is_open_is_retried(
    remote: HttpControl, control: MemoryControl
) -> None:
    assert await remote.do(DiscardLetters((1, 2))) == 2
    assert await remote.do(DiscardLetters((1,))) == 0
    assert await remote.do(RetryLetters((2, 3))) == {3: "settled"}
    assert len(cast("dict[int, str]", await remote.do(RetryLetters()))) == 1200
    assert control.kept[1][0].state is LetterState.DISCARDED
    assert control.kept[4][0].state is LetterState.SETTLED
