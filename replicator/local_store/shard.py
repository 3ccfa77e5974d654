"""
One collection's points: an engine shard behind threads.

The engine is synchronous. Writes go one after the other through one thread of the shard's own,
in the order of their calls; reads share the server's threads. A write that was handed over is
carried out even if the client hangs up or its deadline passes: a real server does not stop
either, and clients must be tested against that.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from qdrant_edge import EdgeConfig, EdgeShard

from replicator.errors import Fatal
from replicator.local_store import answers

T = TypeVar("T")

Work = Callable[[EdgeShard], T]


class Shard:
    """An open shard. Made by `open`; all calls from one event loop."""

    def __init__(
        self, directory: Path, shard: EdgeShard, writer: ThreadPoolExecutor, readers: Executor
    ) -> None:
        self._directory = directory
        self._shard = shard
        self._writer = writer
        self._readers = readers
        self._under_way: set[asyncio.Future[Any]] = set()
        self._dirty = False
        self._optimising = 0

    @classmethod
    async def open(cls, directory: Path, config: EdgeConfig | None, readers: Executor) -> Shard:
        """Make the shard with `config`, or load it, replaying its log, when that is None."""
        writer = ThreadPoolExecutor(1, thread_name_prefix=f"writer {directory.name}")
        loop = asyncio.get_running_loop()
        try:
            shard = await loop.run_in_executor(writer, _open, directory, config)
        except BaseException:
            writer.shutdown(wait=False)
            raise
        return cls(directory, shard, writer, readers)

    @property
    def optimising(self) -> bool:
        """Whether the index is being built, or is about to."""
        return self._optimising > 0

    async def write(self, work: Work[T]) -> T:
        """Run in the writer thread; after the call is made nothing stops it."""
        self._dirty = True
        return await asyncio.shield(self._hand_over(self._writer, work))

    async def read(self, work: Work[T]) -> T:
        """Run in one of the readers' threads."""
        return await asyncio.shield(self._hand_over(self._readers, work))

    def optimise(self) -> None:
        """Build the index, after the writes that wait."""
        self._optimising += 1
        self._hand_over(self._writer, EdgeShard.optimize).add_done_callback(self._optimised)

    async def flush(self) -> None:
        """Force to disk what was written since the last time."""
        if self._dirty:
            self._dirty = False
            await asyncio.shield(self._hand_over(self._writer, EdgeShard.flush))

    async def close(self) -> None:
        """Carry out what was handed over, flush and let go of the shard. Idempotent."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        await asyncio.get_running_loop().run_in_executor(self._writer, self._shard.close)
        self._writer.shutdown(wait=False)

    async def drop(self) -> None:
        """Close, and delete the directory."""
        await self.close()
        await asyncio.to_thread(shutil.rmtree, self._directory)

    def _optimised(self, done: asyncio.Future[bool]) -> None:
        self._optimising -= 1
        done.exception()  # Said by the status alone: an index is a matter of speed.

    def _hand_over(self, executor: Executor, work: Work[T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(executor, _run, work, self._shard)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future


def _open(directory: Path, config: EdgeConfig | None) -> EdgeShard:
    if config is not None:
        return EdgeShard.create(str(directory), config)
    try:
        return EdgeShard.load(str(directory))
    except BaseException as exc:
        # A panic of the engine is no Exception.
        raise Fatal("store-bug", f"the engine cannot load {directory}: {exc}") from exc


def _run(work: Work[T], shard: EdgeShard) -> T:
    try:
        return work(shard)
    except answers.Answer:
        raise
    except Exception as exc:
        raise answers.of_engine(exc) from exc
    except BaseException as exc:
        # A panic of the engine is no Exception, and would end the event loop.
        raise answers.of_engine(RuntimeError(f"the engine panicked: {exc}")) from exc
