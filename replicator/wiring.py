"""
The composition root: which settings become which parts.

Nothing connects here, and drivers are imported only when a part is built: a command that asks
the daemon over HTTP pays for none of them.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from replicator.metrics import Metrics
from replicator.ports.control import Control


class Service(Control, Protocol):
    """A migration as the daemon runs it."""

    async def run(self) -> None:
        """
        Do the work until it is complete, aborted or drained. Raises Unavailable only before
        anything was begun, and may then be called again; other errors end the process.
        """
        ...

    def request_drain(self) -> None:
        """Finish what is in flight, persist, and let `run` return."""
        ...


class Assembly(msgspec.Struct, frozen=True):
    """A service with the metrics that it keeps."""

    service: Service
    metrics: Metrics
