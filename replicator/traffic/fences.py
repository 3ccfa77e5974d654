"""
Writer fences: by a person's word, and over HTTP.

A fence that rests on a person's word never opens by itself: only somebody who knows where the
writers are may start them again, and says so.
"""

from __future__ import annotations

import msgspec

from replicator.errors import Refused, Retryable
from replicator.model.fence import FenceAnswer
from replicator.settings.cutover import HttpSettings
from replicator.traffic.person import Person
from replicator.traffic.request import Reply, request

_DECLINED = "declined"
_HELD = "fence-held"
_A_PERSON = "a person"
_CONFLICT = 409


class ManualFence:
    """A person stops the writers, and starts them again. Implements ports.store.Fence."""

    def __init__(self, person: Person, name: str = "the application") -> None:
        self._person = person
        self._name = name
        self._closed_for: str | None = None
        self._opened_for: str | None = None
        """The last one: a process makes one attempt at a time."""

    @property
    def rests_on_word(self) -> bool:
        """Nobody but a person knows."""
        return True

    async def close(self, deadline_s: float, attempt: str) -> FenceAnswer:
        """
        Ask whether the writers have stopped. The deadline is the caller's to enforce: nobody
        opens this fence at it. Raises Refused ("declined") on a no.
        """
        if attempt == self._opened_for:
            raise Refused("fence-failed", f"the fence was opened for attempt {attempt} already")
        yes = await self._person.ask(
            "fence-close",
            f"Have all writers of {self._name} stopped, and have their producers flushed?",
        )
        if not yes:
            raise Refused(_DECLINED, "the writers were not stopped")
        self._closed_for = attempt
        return FenceAnswer(holder=_A_PERSON)

    async def open(self, attempt: str) -> FenceAnswer:
        """Ask until the writers run again. Raises Refused ("declined") on a no."""
        if self._closed_for not in (None, attempt):
            raise Refused(_HELD, f"the fence is closed for attempt {self._closed_for}")
        yes = await self._person.ask(
            "fence-open",
            f"The writers of {self._name} may start again. Answer yes once they run.",
        )
        if not yes:
            raise Refused(_DECLINED, "the writers were not started again")
        self._closed_for, self._opened_for = None, attempt
        return FenceAnswer(holder=_A_PERSON)


class HttpFence:
    """
    The application fences its own writers: the protocol is in `settings.cutover`. Implements
    ports.store.Fence.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings

    @property
    def rests_on_word(self) -> bool:
        """The application enforces it."""
        return False

    async def close(self, deadline_s: float, attempt: str) -> FenceAnswer:
        """
        Close, or extend the deadline of a fence that is closed. Raises, as "fence-failed",
        Retryable when the application is away, busy or silent, Refused when it says no.
        """
        return await self._post(
            {"action": "close", "deadline_s": deadline_s, "attempt": attempt},
            min(self._settings.timeout, deadline_s),
        )

    async def open(self, attempt: str) -> FenceAnswer:
        """Open. Raises as `close` does, and Refused("fence-held") on a 409."""
        return await self._post({"action": "open", "attempt": attempt}, self._settings.timeout)

    async def _post(self, body: dict[str, object], timeout_s: float) -> FenceAnswer:
        reply = await request(
            "POST",
            self._settings.url,
            code="fence-failed",
            timeout_s=timeout_s,
            token=self._settings.token,
            body=body,
        )
        if reply.ok:
            return _said(reply)
        message = f"the fence did not {body['action']}: {reply}"
        if reply.busy:
            raise Retryable("fence-failed", message)
        if reply.status == _CONFLICT and body["action"] == "open":
            raise Refused(_HELD, message)
        raise Refused("fence-failed", message)


def _said(reply: Reply) -> FenceAnswer:
    """What an answer says in our words: holders of before, and of others, say nothing."""
    try:
        return msgspec.json.decode(reply.text, type=FenceAnswer)
    except msgspec.DecodeError:
        return FenceAnswer()
