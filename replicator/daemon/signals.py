"""
SIGTERM and SIGINT: the first drains, the second ends the process where it stands.

The first is taken by the loop, between two steps of the program. The second must work when the
loop does not turn any more, be it that Python runs in circles or that a call into a library
never returns. Python runs its handlers on the main thread only, which such a call holds up; but
the number of the signal goes into the wakeup pipe at once, on whatever thread it arrives. So a
thread reads that pipe and leaves. That nothing is lost then is what the persisted positions are
for (Invariant 8).
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Never

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
        _watch()
        self.received = number
        self._asked.set()


def _watch() -> None:
    """Take the wakeup pipe over from the loop, which has nothing more to hear from it."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    threading.Thread(target=_await_second, args=(read,), daemon=True).start()


def _await_second(pipe: int) -> None:
    while (number := os.read(pipe, 1)[0]) not in _SIGNALS:
        pass
    _leave(number)


def _second(number: int, _frame: FrameType | None) -> None:
    _leave(number)


def _leave(number: int) -> Never:
    os.write(
        2, b"stopped by a second signal; what was in flight is repeated at the next start\n"
    )
    os._exit(128 + number)
