"""
What every store must do when things go wrong. Beside the conformance suite, subclass one of
these in a test module:

- `StoreFaults`, of any store: nobody is there, the collection goes away, a row cannot be read,
  some points of a batch are refused, there is no room, or no right to write.
- `ServerFaults`, of a store that is reached by TCP: all that, and what a proxy in front of the
  server does: nobody answers, a reply is lost, the server throttles, the credentials are wrong.

Each fault is a `Cell`. A class says how its kind comes by it (the hooks), or in `excused` why
it cannot; a cell that is neither given nor excused fails, and one that is excused is shown as
skipped with its reason.

    class TestMyStoreFaults(ServerFaults):
        traits = MINE.traits
        excused: ClassVar = {Cell.FULL: "the service has no limit of its own"}

        @pytest.fixture
        def address(self): ...       # host:port of a server without TLS

        def open(self, address, timeout_s, secret): ...
"""

from __future__ import annotations

from replicator.testing.store_faults.cells import Cell
from replicator.testing.store_faults.server import ServerFaults, Throttling
from replicator.testing.store_faults.suite import StoreFaults

__all__ = ["Cell", "ServerFaults", "StoreFaults", "Throttling"]
