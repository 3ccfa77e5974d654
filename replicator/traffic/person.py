"""
A person who is asked, one question at a time.

Whoever needs an answer waits in `ask`; the status shows the question, and the answer comes in
through the daemon's HTTP or a terminal.
"""

from __future__ import annotations

import asyncio

import msgspec

from replicator.errors import Refused


class Question(msgspec.Struct, frozen=True):
    """`code` is stable, for programs; `text` is what the person reads."""

    code: str
    text: str


class Person:
    """Holds the question that waits for an answer, if one does."""

    def __init__(self, assume_yes: bool = False) -> None:
        self.assume_yes = assume_yes
        """Answer yes to everything: the person has said so in advance, for a script."""
        self._pending: tuple[Question, asyncio.Future[bool]] | None = None
        self._turn = asyncio.Lock()

    @property
    def question(self) -> Question | None:
        """What is asked just now."""
        # One that was answered, and whose asker has not run since, is asked no more.
        waits = self._pending is not None and not self._pending[1].done()
        return self._pending[0] if self._pending and waits else None

    async def ask(self, code: str, text: str) -> bool:
        """
        Wait for the answer, after those who asked before. A wait that is cancelled takes the
        question back.
        """
        async with self._turn:
            if self.assume_yes:
                return True
            answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._pending = Question(code, text), answer
            try:
                return await answer
            finally:
                self._pending = None

    def answer(self, yes: bool) -> None:
        """Answer the question. Raises Refused ("bad-request") when none is asked."""
        if self._pending is None or self.question is None:
            raise Refused("bad-request", "nothing is asked just now")
        self._pending[1].set_result(yes)
