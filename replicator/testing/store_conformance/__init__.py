"""
What every store must do. Subclass `StoreConformance` in a test module, name the traits of the
store, and give the fixture `store`:

    class TestMyStore(StoreConformance):
        traits = MINE.traits

        @pytest.fixture
        async def store(self): ...

The suite asks for no more than the traits say, and tests for a lack as well, so that nothing is
skipped in silence. Every test makes collections of its own, named by `fresh_name`; a store that
outlives the test can find and remove them by their prefix.
"""

from __future__ import annotations

from replicator.testing.store_conformance.examples import (
    PLAIN,
    PREFIX,
    floats,
    fresh_name,
    simple,
)
from replicator.testing.store_conformance.patches import Patches
from replicator.testing.store_conformance.points import Points
from replicator.testing.store_conformance.reads import Reads
from replicator.testing.store_conformance.schemas import Schemas
from replicator.testing.store_conformance.scopes import Scopes
from replicator.testing.store_conformance.searches import Searches
from replicator.testing.store_conformance.suite import scanned
from replicator.testing.store_conformance.writes import Writes

__all__ = [
    "PLAIN",
    "PREFIX",
    "StoreConformance",
    "floats",
    "fresh_name",
    "scanned",
    "simple",
]


class StoreConformance(Points, Writes, Patches, Reads, Schemas, Scopes, Searches):
    """The suite. `store` is a store that is up, and may hold other collections."""
