"""
SIGTERM and SIGINT: the first drains, the second ends the process where it stands.

The first is taken by the loop, between two steps of the program. The second must work even when
the loop does not turn any more, so it is a plain handler that leaves at once; that nothing is
lost then is what the persisted positions are for (Invariant 8).
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Listen on a running loop, from `listen` to the end of the process."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self.received: signal.Signals | None = None

    def listen(self) -> None:
        """From now on the first signal is a request."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._first, number)

    @property
    def asked(self) -> bool:
        """Whether somebody asked for the end."""
        return self._asked.is_set()

    async def wait(self, most_s: float | None = None) -> None:
        """Until somebody asks for the end, or `most_s` seconds have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._asked.wait()

    def _first(self, number: signal.Signals) -> None:
        loop = asyncio.get_running_loop()
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, _second)
        self.received = number
        self._asked.set()


def _second(number: int, _frame: FrameType | None) -> None:
    os.write(
        2, b"stopped by a second signal; what was in flight is repeated at the next start\n"
    )
    os._exit(128 + number)
