"""
What every writer fence must do, and its holder. Subclass it in a test module and give two
fixtures: `fence`, an open one whose person, if it rests on a word, answers yes, and `admits`,
which says whether the application may write now (None where only a person knows).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from replicator.errors import Refused
from replicator.ports.traffic import Fence

Admits = Callable[[], bool] | None

_LONG_S = 60.0
_SHORT_S = 0.3


class FenceConformance:
    """The suite of `ports.traffic.Fence`."""

    def _is_open(self, admits: Admits, wanted: bool) -> None:
        if admits is not None:
            assert admits() is wanted

    async def test_while_it_is_closed_nobody_writes(self, fence: Fence, admits: Admits) -> None:
        self._is_open(admits, True)
        await fence.close(_LONG_S, "c/1")
        self._is_open(admits, False)
        await fence.open("c/1")
        self._is_open(admits, True)

    async def test_closing_and_opening_can_be_repeated(
        self, fence: Fence, admits: Admits
    ) -> None:
        await fence.close(_LONG_S, "c/1")
        await fence.close(_LONG_S, "c/1")
        self._is_open(admits, False)
        await fence.open("c/1")
        await fence.open("c/1")
        self._is_open(admits, True)

    async def test_an_attempt_that_never_closed_it_may_be_opened(
        self, fence: Fence, admits: Admits
    ) -> None:
        await fence.open("c/1")
        self._is_open(admits, True)

    async def test_a_close_that_comes_after_the_open_of_its_attempt_is_refused(
        self, fence: Fence, admits: Admits
    ) -> None:
        await fence.close(_LONG_S, "c/1")
        await fence.open("c/1")
        with pytest.raises(Refused) as refused:
            await fence.close(_LONG_S, "c/1")
        assert refused.value.code == "fence-failed"
        self._is_open(admits, True)
        await fence.close(_LONG_S, "c/2")
        self._is_open(admits, False)

    async def test_an_old_attempt_does_not_open_what_a_later_one_has_closed(
        self, fence: Fence, admits: Admits
    ) -> None:
        await fence.close(_LONG_S, "c/1")
        await fence.open("c/1")
        await fence.close(_LONG_S, "c/2")
        for old in ("c/1", "b/2"):
            with pytest.raises(Refused) as refused:
                await fence.open(old)
            assert refused.value.code == "fence-held"
            self._is_open(admits, False)
        await fence.close(_LONG_S, "c/2")  # it is still that one's
        await fence.open("c/2")
        self._is_open(admits, True)
        await fence.open("c/1")  # late, and harmless

    async def test_the_answer_says_by_whom_and_for_how_long_it_is_held(
        self, fence: Fence
    ) -> None:
        answer = await fence.close(_LONG_S, "c/1")
        assert answer.holder
        if fence.rests_on_word:
            assert answer.held_s is None, "nobody opens it by itself"
        else:
            assert answer.held_s is not None
            assert 0 < answer.held_s <= _LONG_S
        await fence.open("c/1")

    async def test_an_enforced_one_opens_by_itself_at_its_deadline_and_not_before(
        self, fence: Fence, admits: Admits
    ) -> None:
        await fence.close(_SHORT_S, "c/1")
        if fence.rests_on_word or admits is None:
            await asyncio.sleep(_SHORT_S * 2)
            self._is_open(admits, False)
            return
        await fence.close(_LONG_S, "c/1")  # moves it
        await asyncio.sleep(_SHORT_S * 2)
        assert not admits()
        await fence.close(_SHORT_S, "c/1")
        await asyncio.sleep(_SHORT_S * 3)
        assert admits()
