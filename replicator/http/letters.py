"""`/v1/dead-letters`: list and show."""

from __future__ import annotations

from aiohttp import web

from replicator.errors import Refused
from replicator.http import wire
from replicator.http.observe import answer, number
from replicator.model.letter import LetterState
from replicator.ports.control import Control

_LIMIT = 100
_LIMIT_MAX = 1000
"""The page that the state store gives at once."""
_NUMBER_MAX = (1 << 63) - 1


class Letters:
    """Looking at dead letters."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def routes(self) -> list[web.RouteDef]:
        """The routes of this part."""
        return [
            web.get("/v1/dead-letters", self.list),
            web.get("/v1/dead-letters/{number:[0-9]{1,18}}", self.show),
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


def _state(text: str | None) -> LetterState | None:
    try:
        return None if text is None else LetterState(text)
    except ValueError as exc:
        known = ", ".join(state.value for state in LetterState)
        raise Refused("bad-request", f"state: expected one of {known}, not {text!r}") from exc
