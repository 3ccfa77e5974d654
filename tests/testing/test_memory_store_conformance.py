"""The store in memory keeps the stores' contract: stale, without marks, without nulls too."""

from __future__ import annotations

from random import Random
from typing import ClassVar

import pytest

from replicator.testing.faults import Fault, Faults
from replicator.testing.memory_client import AttachedStore
from replicator.testing.memory_store import MemoryStore
from replicator.testing.store_conformance import StoreConformance


class TestMemoryStore(StoreConformance):
    int_max: ClassVar[int | None] = None
    checks_dimensions: ClassVar[bool] = False
    filters: ClassVar[bool] = False

    @pytest.fixture
    def store(self) -> AttachedStore:
        return MemoryStore().attach()


class TestStaleMemoryStore(TestMemoryStore):
    marks: ClassVar[bool] = False
    normalises: ClassVar[bool] = False

    @pytest.fixture
    def store(self) -> AttachedStore:
        faults = Faults(Random(1), {Fault.STALE_READ: 0.9})
        return MemoryStore(
            staleness_s=0.02, faults=faults, marks=False, normalises=False
        ).attach()


class TestMemoryStoreWithoutNulls(TestMemoryStore):
    @pytest.fixture
    def store(self) -> AttachedStore:
        return MemoryStore(null_is_absence=True).attach()
