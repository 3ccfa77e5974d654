"""What the holder of a writer fence says of it: evidence of a cutover."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class FenceAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The answer to a request that was obeyed. None: the holder did not say. Durations and no
    times of day, for the holder's clock is not ours.
    """

    holder: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    """Who answered, in the application's words."""
    closed_s: _Seconds | None = None
    """For how long the fence has been closed; of an opening, for how long it was."""
    held_s: _Seconds | None = None
    """How long it stays closed if nobody asks again, from the answer on."""
    writers: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """How many writers have said that their events are flushed."""

    @property
    def evidence(self) -> dict[str, Any]:
        """What was said, for the journal."""
        said: dict[str, Any] = msgspec.to_builtins(self)
        return said
