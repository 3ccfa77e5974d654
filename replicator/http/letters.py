"""`/v1/dead-letters`: list, show, retry, discard."""

from __future__ import annotations

import msgspec
from aiohttp import web

from replicator.errors import Refused
from replicator.http import wire
from replicator.http.bodies import body_of
from replicator.http.errands import Errands
from replicator.http.observe import answer, number
from replicator.model.letter import LetterState
from replicator.ports.control import Control

_LIMIT = 100
_LIMIT_MAX = 1000
"""The page that the state store gives at once."""
_NUMBER_MAX = (1 << 63) - 1


class RetryRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/dead-letters/retry`; null retries all that are open."""

    numbers: list[int] | None = None


class DiscardRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/dead-letters/discard`. Nothing is discarded that is not named."""

    numbers: list[int]


class Letters:
    """Requests about dead letters."""

    def __init__(self, control: Control, errands: Errands) -> None:
        self._control = control
        self._errands = errands

    def routes(self) -> list[web.RouteDef]:
        """The routes of this part."""
        return [
            web.get("/v1/dead-letters", self.list),
            web.get("/v1/dead-letters/{number:[0-9]{1,18}}", self.show),
            web.post("/v1/dead-letters/retry", self.retry),
            web.post("/v1/dead-letters/discard", self.discard),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Dead letters above `after`, at most `limit`, in one `state` or in all."""
        letters = await self._control.letters(
            _state(request.query.get("state")),
            number(request, "limit", _LIMIT, _LIMIT_MAX),
            number(request, "after", 0, _NUMBER_MAX),
        )
        return answer({"letters": [wire.document(letter) for letter in letters]})

    async def show(self, request: web.Request) -> web.Response:
        """One dead letter's bytes, in base64, with what is wrong with them."""
        record = await self._control.letter_bytes(int(request.match_info["number"]))
        return answer(wire.document(record))

    async def retry(self, request: web.Request) -> web.Response:
        """Replay the keys of letters from the log."""
        asked = await body_of(request, RetryRequest)
        work = self._control.retry_letters(asked.numbers)
        outcomes = await self._errands.run("retry", work)
        return answer({"outcomes": {str(n): text for n, text in outcomes.items()}})

    async def discard(self, request: web.Request) -> web.Response:
        """Give letters up."""
        asked = await body_of(request, DiscardRequest)
        work = self._control.discard_letters(asked.numbers)
        return answer({"discarded": await self._errands.run("discard", work)})


def _state(text: str | None) -> LetterState | None:
    try:
        return None if text is None else LetterState(text)
    except ValueError as exc:
        known = ", ".join(state.value for state in LetterState)
        raise Refused("bad-request", f"state: expected one of {known}, not {text!r}") from exc
