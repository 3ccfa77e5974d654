"""The store in memory keeps the stores' contract, however poor a kind of store it plays."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from replicator.model.schema import IdKinds, IdLimits
from replicator.model.traits import (
    IdRules,
    Limits,
    Lists,
    PayloadRules,
    Traits,
    VectorRules,
)
from replicator.testing.faults import Fault, Faults
from replicator.testing.memory_client import AttachedStore
from replicator.testing.memory_store import MEMORY, MemoryStore
from replicator.testing.store_conformance import StoreConformance


class TestMemoryStore(StoreConformance):
    traits = MEMORY

    @pytest.fixture
    def store(self) -> AttachedStore:
        return MemoryStore(traits=self.traits).attach()


class TestMemoryStoreWithScopes(TestMemoryStore):
    """Every collection has two scopes, and every test meets equal ids in both."""

    scoped = True


class TestStaleMemoryStore(TestMemoryStore):
    traits = replace(
        MEMORY, marks=False, patches=False, vectors=replace(MEMORY.vectors, normalises=False)
    )

    @pytest.fixture
    def store(self) -> AttachedStore:
        faults = Faults(Random(1), {Fault.STALE_READ: 0.9})
        return MemoryStore(traits=self.traits, staleness_s=0.02, faults=faults).attach()


class TestStrongMemoryStore(TestMemoryStore):
    """Reads lag, and those of who asks for more do not."""

    @pytest.fixture
    def store(self) -> AttachedStore:
        faults = Faults(Random(2), {Fault.STALE_READ: 0.9})
        return MemoryStore(staleness_s=0.02, strong=True, faults=faults).attach()


class TestPoorMemoryStore(TestMemoryStore):
    """One unnamed dense vector, ids that are short texts, and a flat payload without nulls."""

    traits = Traits(
        ids=IdRules(
            kinds=IdKinds.STRING, limits=IdLimits(text_bytes_max=64, alphabet=r"\x20-\x7e")
        ),
        vectors=VectorRules(),
        payload=PayloadRules(
            nested=False,
            lists=Lists.ALIKE,
            null_is_absence=True,
            integer_max=1 << 53,
            nul=False,
            keys=r"[A-Za-z_][A-Za-z0-9_]*",
        ),
        limits=Limits(records_max=50),
        marks=False,
        patches=False,
        counts=False,
        creates_on_write=True,
        filters=False,
    )


class TestMemoryStoreOfNames(TestMemoryStore):
    """Every vector has a name and is there, and a collection has ids of one kind."""

    traits = Traits(
        ids=IdRules(
            kinds=IdKinds.UINT64 | IdKinds.STRING,
            limits=IdLimits(integer_min=-(1 << 63), integer_max=(1 << 63) - 1),
            mixed=False,
        ),
        vectors=VectorRules(
            kinds=MEMORY.vectors.kinds, unnamed=False, several=True, partial=False
        ),
        payload=PayloadRules(lists=Lists.NONE),
        marks=True,
        filters=False,
    )
