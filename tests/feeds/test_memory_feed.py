"""The feed in memory keeps the same contract as the real ones."""

from __future__ import annotations

import time

import pytest

from replicator.model.position import Partition
from replicator.testing.feed_conformance import FeedConformance, Renew, Truncate
from replicator.testing.memory_feed import MemoryFeed, MemoryLog


class TestConformance(FeedConformance):
    @pytest.fixture
    def log(self) -> MemoryLog:
        return MemoryLog(partitions=3, wall=time.time)

    @pytest.fixture
    def feed(self, log: MemoryLog) -> MemoryFeed:
        return log.attach()

    @pytest.fixture
    def truncate(self, log: MemoryLog) -> Truncate:
        async def truncate(partition: Partition, before: int) -> None:
            log.truncate(int(partition.rpartition("/")[2]), before)

        return truncate

    @pytest.fixture
    def renew(self, log: MemoryLog) -> Renew:
        async def renew() -> None:
            log.make_anew()

        return renew
