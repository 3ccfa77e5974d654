"""
Whole migrations on virtual time, each drawn from a seed, against stores, a log, an application
and processes that fail in every way we know.

`SEEDS=n` runs so many seeds instead of 2,000; `SEED=n` runs the one, with its trace.
"""

from __future__ import annotations

import gc
import os

import pytest

from tests.simulation.coverage import Coverage
from tests.simulation.run import run_seed

SHARDS = 20
"""Enough that two or eight processes are busy to the end."""
SEEDS = int(os.environ.get("SEEDS", "2000"))
ONE = os.environ.get("SEED")


@pytest.mark.parametrize("shard", [0] if ONE else range(SHARDS))
def test_every_migration_ends_with_both_stores_equal_to_the_oracle(
    shard: int, coverage: Coverage
) -> None:
    seeds = [int(ONE)] if ONE else range(shard, SEEDS, SHARDS)
    gc.disable()  # cycles are many and small; collected now and then they cost a third
    try:
        for number, seed in enumerate(seeds):
            run_seed(seed, coverage)
            if number % 20 == 0:
                gc.collect()
    finally:
        gc.enable()
