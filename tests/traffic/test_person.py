from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from replicator.errors import Refused
from replicator.model.phase import Direction
from replicator.traffic.fences import ManualFence
from replicator.traffic.person import Person, Question
from replicator.traffic.switches import ManualSwitch

T = TypeVar("T")


def question_of(person: Person) -> Question:
    assert person.question is not None
    return person.question


async def asked(person: Person, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    task: asyncio.Task[T] = asyncio.create_task(call)
    while person.question is None and not task.done():
        await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("yes", [True, False])
async def test_a_question_waits_for_its_answer(yes: bool) -> None:
    person = Person()
    assert person.question is None
    task = await asked(person, person.ask("c", "Really?"))
    assert person.question == Question("c", "Really?")
    person.answer(yes)
    assert await task is yes
    assert person.question is None


async def test_an_answer_to_nothing_is_refused() -> None:
    person = Person()
    with pytest.raises(Refused) as refused:
        person.answer(True)
    assert refused.value.code == "bad-request"
    task = await asked(person, person.ask("c", "Really?"))
    person.answer(False)
    with pytest.raises(Refused):
        person.answer(True)  # twice, before the asker has heard the first
    assert await task is False


async def test_a_question_nobody_waits_for_any_more_is_taken_back() -> None:
    person = Person()
    task = await asked(person, person.ask("c", "Really?"))
    task.cancel()
    await asyncio.wait([task])
    assert person.question is None
    with pytest.raises(Refused):
        person.answer(True)
    task = await asked(person, person.ask("d", "And now?"))
    person.answer(True)
    assert await task


async def test_a_second_question_waits_for_the_answer_to_the_first() -> None:
    person = Person()
    first = await asked(person, person.ask("first", "?"))
    second = asyncio.create_task(person.ask("second", "?"))
    await asyncio.sleep(0)
    assert question_of(person).code == "first"
    person.answer(False)
    assert await first is False
    while person.question is None:
        await asyncio.sleep(0)
    assert question_of(person).code == "second"
    person.answer(True)
    assert await second is True


async def test_a_person_who_said_yes_in_advance_is_not_asked() -> None:
    assert await Person(assume_yes=True).ask("c", "Really?")


async def test_a_manual_fence_closes_and_opens_on_a_persons_word_only() -> None:
    person = Person()
    fence = ManualFence(person, "articles")
    assert fence.rests_on_word
    for call, words in (
        (fence.close(300, "c/1"), "Have all writers of articles stopped"),
        (fence.open("c/1"), "The writers of articles may start again"),
    ):
        task = await asked(person, call)
        assert words in question_of(person).text
        person.answer(True)
        await task


async def test_a_no_leaves_fence_and_switch_as_they_are() -> None:
    person = Person()
    fence, switch = ManualFence(person), ManualSwitch(person)
    for call in (fence.close(300, "c/1"), fence.open("c/1"), switch.to(Direction.REVERSE, 1)):
        task = await asked(person, call)
        person.answer(False)
        with pytest.raises(Refused) as refused:
            await task
        assert refused.value.code == "declined"


async def test_a_manual_switch_names_the_store_and_cannot_be_read() -> None:
    person = Person()
    switch = ManualSwitch(person, "articles")
    for direction, store in ((Direction.REVERSE, "target"), (Direction.FORWARD, "source")):
        task = await asked(person, switch.to(direction, 3))
        assert f"traffic of articles to the {store}" in question_of(person).text
        person.answer(True)
        await task
    assert await switch.current() is None
    assert switch.repeatable
