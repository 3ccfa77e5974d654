"""
Failpoints: places in this code, by name, that a test can make fail, hang, or die.

They stand around every step that must be durable before the next begins, where a crash that
falls between two instructions once in a thousand runs can be made to fall every time. A process
that was not told of any pays one comparison at each place. Nothing here acts at import: the
daemon arms them when it starts, from the variable REPLICATOR_FAILPOINTS.

    REPLICATOR_FAILPOINTS="backfill.after-write=die@3;crossing.switching=hang"

`@3`: the third time the place is reached, and each time after that; the first by default.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Mapping
from enum import Enum

import msgspec
import structlog

from replicator.errors import Fatal, Refused

log = structlog.get_logger()

VARIABLE = "REPLICATOR_FAILPOINTS"

PLACES: Mapping[str, str] = {
    "capture.before-persist": "the positions are known, and not persisted",
    "capture.persisted": "the capture is journalled, and nothing else was done",
    "copy.before-first-row": "the target is prepared, and no row was read",
    "backfill.before-write": "a page is read, and not written",
    "backfill.after-write": "a page is durable, and the cursor stands before it",
    "backfill.after-cursor": "the cursor stands behind a durable page",
    "backfill.before-finish": "every row is copied, and the bulk load not ended",
    "backfill.after-finish": "the bulk load is ended, and the phase is still BACKFILL",
    "replay.began": "REPLAY is journalled, and no event was applied",
    "replay.before-end": "everything up to the copy's end is applied, and REPLAY not ended",
    "replay.ended": "STREAMING is journalled for the first time",
    "stream.before-write": "a batch of events is taken, and not written",
    "stream.after-write": "a batch is durable, and no watermark has moved",
    "stream.before-commit": "watermarks have moved, and are not persisted",
    "stream.after-commit": "positions are persisted, and others not shown them",
    "stream.after-publish": "positions are persisted and published",
    "letters.after-keep": "a dead letter's bytes are kept, and its index is not",
    "letters.after-index": "a dead letter is kept, and its record not passed",
    "verify.before-complete": "everything was compared, and the generation is not complete",
    "verify.after-complete": "the generation is complete, and its report not kept",
    "repair.holding": "a repair holds its keys, and has read nothing",
    "repair.after-write": "a repair has written, and findings and letters still stand",
    "retry.holding": "a retry holds its key, and has read nothing",
    "retry.after-write": "a retry has written, and its letter is still open",
    "crossing.fencing": "FENCING is journalled, and the fence is open",
    "crossing.closed": "the fence is closed, and the vector unknown",
    "crossing.vector": "the fence vector is known, and nothing drained",
    "crossing.drained": "everything before the fence is applied, and the stream still runs",
    "crossing.rested": "the stream rests, and nothing was compared",
    "crossing.rechecked": "both stores agree, and stragglers were not looked for",
    "crossing.before-switching": "every step is done, and SWITCHING not journalled",
    "crossing.switching": "SWITCHING is journalled, and the switch not touched",
    "crossing.switched": "the switch has moved, and the record does not say so",
    "crossing.streaming": "STREAMING is journalled in the new direction, the fence closed",
    "crossing.before-open": "the fence is about to be opened",
    "crossing.after-open": "the fence is open, and the record does not say so",
}
"""Every place, with what is true when it is reached. A revert passes those of a cutover."""


class Action(Enum):
    """What happens at a place."""

    DIE = "die"
    """As by `kill -9`."""
    HANG = "hang"
    """The task stands still, until it is cancelled or the process killed."""
    FAIL = "fail"
    """An error that no code expects."""


class _Armed(msgspec.Struct):
    """A place with its action, and how many times it may still be passed."""

    action: Action
    passes: int


_armed: dict[str, _Armed] | None = None


def arm(told: str) -> list[str]:
    """
    Arm the places that a text names, and forget all others; returns their names. Raises
    Refused("config-invalid") for a place or an action that there is not.
    """
    global _armed  # noqa: PLW0603 - one of a process, as its environment is
    armed = dict(_read(each) for each in re.split(r"[;\s]+", told) if each)
    _armed = armed or None
    return list(armed)


def _read(told: str) -> tuple[str, _Armed]:
    found = re.fullmatch(r"([a-z.-]+)=(die|hang|fail)(?:@([1-9][0-9]*))?", told)
    if found is None:
        raise Refused(
            "config-invalid",
            f"{VARIABLE}: {told!r} is not PLACE=die, hang or fail, with @N for the Nth time",
        )
    place, action, nth = found.groups()
    if place not in PLACES:
        raise Refused("config-invalid", f"{VARIABLE}: there is no failpoint {place!r}")
    return place, _Armed(Action(action), int(nth or 1) - 1)


async def reached(place: str) -> None:
    """The code is at a place: nothing, unless a test said what."""
    if _armed is None:
        return
    assert place in PLACES, f"{place} is a failpoint that nobody can name"
    armed = _armed.get(place)
    if armed is None:
        return
    if armed.passes:
        armed.passes -= 1
        return
    log.warning("failpoint reached", place=place, action=armed.action.value)
    match armed.action:
        case Action.DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.HANG:
            await asyncio.Event().wait()
        case Action.FAIL:
            raise Fatal("failpoint", f"the failpoint {place} was reached")
