"""The log in memory keeps the feed's contract, on one partition and on several."""

from __future__ import annotations

from random import Random

import pytest

from replicator.model.position import Partition
from replicator.testing.faults import Fault, Faults
from replicator.testing.feed_conformance import FeedConformance, Renew, Truncate
from replicator.testing.memory_feed import MemoryFeed, MemoryLog


@pytest.fixture(params=["one partition", "three partitions", "gaps and short polls"])
def log(request: pytest.FixtureRequest) -> MemoryLog:
    rates = {Fault.SHORT_POLL: 0.5} if "polls" in request.param else {}
    return MemoryLog(
        partitions=1 if "one" in request.param else 3, faults=Faults(Random(1), rates)
    )


@pytest.fixture
def feed(log: MemoryLog) -> MemoryFeed:
    return log.attach()


@pytest.fixture
def truncate(log: MemoryLog) -> Truncate:
    async def cut(partition: Partition, before: int) -> None:
        log.truncate(int(partition.rpartition("/")[2]), before)

    return cut


@pytest.fixture
def renew(log: MemoryLog) -> Renew:
    async def make_anew() -> None:
        log.make_anew()

    return make_anew


class TestMemoryFeed(FeedConformance):
    pass
