"""
An event loop on which an hour takes no time.

When nothing is ready, time jumps to the next timer; so waits, deadlines and backoffs run in
their true order and cost nothing. The loop has no selector, no sockets and no threads: whatever
runs on it lives in memory, which is what makes a run repeatable from its seed. Its tasks and
futures hash to their number, not to their address: sets of them keep one order everywhere.

Three things end a run that would otherwise hang: nothing is ready and no timer is set
(Deadlock), more time passes than the run may take, or more steps than it may take (Stalled).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from random import Random
from typing import Any, NoReturn, TypeVar, cast

T = TypeVar("T")


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set: what runs waits for something that never comes."""


class Stalled(RuntimeError):
    """The run took more virtual time, or more steps, than it was given."""


class NumberedTask(asyncio.Task[T]):
    """A task that hashes to its number."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The number comes first: the base class puts the task into a set at once.
        self._number: int = next(kwargs["loop"].numbers)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


class NumberedFuture(asyncio.Future[T]):
    """A future that hashes to its number."""

    def __init__(self, *, loop: VirtualLoop) -> None:
        super().__init__(loop=loop)
        self._number = next(loop.numbers)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """
    A loop on virtual time, from 0.0 on.

    With `shuffle`, callbacks that are ready together run in an order drawn from it: an
    interleaving that timers of equal age could have had. `epoch_s` is the wall clock at 0.0.
    """

    _clock_resolution: float
    _ready: Any
    _scheduled: list[asyncio.TimerHandle]

    def __init__(
        self,
        *,
        shuffle: Random | None = None,
        limit_s: float = 86_400.0,
        steps_max: int = 10_000_000,
        epoch_s: float = 1_700_000_000.0,
    ) -> None:
        super().__init__()
        self.numbers = itertools.count()
        self._now = 0.0
        self._shuffle = shuffle
        self._limit_s = limit_s
        self._steps_max = steps_max
        self._epoch_s = epoch_s
        self._selector = _Jump(self)
        self._interrupts: dict[int, Callable[[], object]] = {}
        self.steps = 0
        """Turns of the loop so far: the finest grain at which a crash can be placed."""
        self.errors: list[dict[str, Any]] = []
        """What callbacks and forgotten tasks raised."""
        self.set_task_factory(cast("Any", _numbered))
        self.set_exception_handler(lambda _loop, context: self.errors.append(context))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def wall(self) -> float:
        """Virtual wall-clock time, as seconds since the epoch."""
        return self._epoch_s + self._now

    def create_future(self) -> asyncio.Future[Any]:
        """A future that hashes to its number."""
        return NumberedFuture(loop=self)

    def interrupt(self, step: int, callback: Callable[[], object]) -> None:
        """Run `callback` among whatever is ready at that step (of `steps`)."""
        assert step > self.steps, "that step has passed"
        self._interrupts[step] = callback

    def run_in_executor(self, *_args: Any) -> NoReturn:  # type: ignore[override]
        """Threads know nothing of virtual time."""
        raise RuntimeError("no threads on a virtual-time loop")

    def jump(self, timeout: float | None) -> None:
        """Let time pass until the next timer."""
        if timeout is None:
            raise Deadlock(f"nothing is ready and no timer is set, at {self._now:.3f} s")
        if timeout > 0:
            # Exactly to the timer: adding the difference could fall short by a rounding.
            self._now = max(self._now, self._scheduled[0].when())
            if self._now > self._limit_s:
                raise Stalled(f"more than {self._limit_s:g} virtual seconds passed")

    def _run_once(self) -> None:
        self.steps += 1
        # A timer never fires early here, not even by a nanosecond: who then computes what is
        # left to wait would wait for ever, because only waiting lets time pass.
        self._clock_resolution = math.ulp(self._now)
        if self.steps > self._steps_max:
            raise Stalled(f"more than {self._steps_max} steps were taken, at {self._now:.3f} s")
        if self._interrupts and (callback := self._interrupts.pop(self.steps, None)):
            self.call_soon(callback)
        if self._shuffle is not None and len(self._ready) > 1:
            self._shuffle.shuffle(self._ready)
        super()._run_once()  # type: ignore[misc]

    def _process_events(self, _events: list[object]) -> None:
        """There are no sockets."""

    def _write_to_self(self) -> None:
        """There are no threads that could have to wake the loop."""


def _numbered(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, T],
    context: Context | None = None,
) -> asyncio.Task[T]:
    return NumberedTask(work, loop=loop, context=context)


class _Jump:
    """Stands where the base class expects a selector: instead of waiting, time passes."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        self._loop.jump(timeout)
        return []


@contextlib.contextmanager
def virtual_loop(loop: VirtualLoop | None = None) -> Iterator[VirtualLoop]:
    """A virtual-time loop; afterwards its tasks end and it closes."""
    loop = loop or VirtualLoop()
    try:
        yield loop
    finally:
        _finish(loop)
        loop.close()


def run_virtual(main: Coroutine[Any, Any, T], *, loop: VirtualLoop | None = None) -> T:
    """As `asyncio.run`, on virtual time. Raises Deadlock and Stalled besides."""
    with virtual_loop(loop) as running:
        return running.run_until_complete(main)


def _finish(loop: VirtualLoop) -> None:
    """Cancel what is left. What will not end within a bounded number of steps is dropped."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop._limit_s += 86_400.0
    loop._steps_max = loop.steps + 100_000
    with contextlib.suppress(Deadlock, Stalled):
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
