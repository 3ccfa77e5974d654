"""What a test can make go wrong, and how much a second may bring."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from enum import Enum

import msgspec

from replicator.testing.pinecone.limits import Rates
from replicator.testing.pinecone.records import Refusal


class Loss(Enum):
    """How a reply is lost."""

    BEFORE = "before"
    """The connection ends before anything is done."""
    AFTER = "after"
    """It is done, and the reply never comes."""


class Strike(msgspec.Struct, frozen=True):
    """Of one request to an operation: `upsert`, `fetch`, `list`, …"""

    operation: str
    what: Refusal | Loss


class Quota(Enum):
    """What a month, or a project, may hold."""

    READS = "read"
    WRITES = "write"


class Faults:
    """Of one service."""

    def __init__(self, rates: Rates, clock: Callable[[], float]) -> None:
        self.quota_used: set[Quota] = set()
        """Whose monthly units are used up."""
        self._rates = rates
        self._clock = clock
        self._strikes: deque[Strike] = deque()
        self._seen: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)

    def strike(self, operation: str, what: Refusal | Loss, times: int = 1) -> None:
        """The next requests of this operation."""
        self._strikes.extend(Strike(operation, what) for _ in range(times))

    def next(self, operation: str) -> Loss | None:
        """How the reply of this request is lost. Raises Refusal for what was asked to be
        refused.
        """
        for strike in self._strikes:
            if strike.operation == operation:
                self._strikes.remove(strike)
                if isinstance(strike.what, Refusal):
                    raise strike.what
                return strike.what
        return None

    def admit(self, operation: str, namespace: str, records: int = 1) -> None:
        """Raises Refusal above a rate, and of a quota that is used up."""
        writes = operation in ("upsert", "update", "delete")
        quota = Quota.WRITES if writes else Quota.READS
        if quota in self.quota_used:
            raise Refusal(
                429,
                8,
                f"Request failed. You've reached your {quota.value} unit limit for the current"
                " month. To continue, upgrade your plan.",
            )
        rates = self._rates
        match operation:
            case "fetch":
                self._within("fetch", "", rates.fetches_per_index, 1)
            case "list":
                self._within("list", "", rates.lists_per_index, 1)
            case _:
                self._within(operation, namespace, rates.requests_per_namespace, 1)
        if operation == "update":
            self._within("updated", namespace, rates.updates_per_namespace, records)

    def _within(self, what: str, where: str, limit: int | None, count: int) -> None:
        if limit is None:
            return
        now = self._clock()
        seen = self._seen[what, where]
        while seen and seen[0] <= now - 1.0:
            seen.popleft()
        if len(seen) + count > limit:
            raise Refusal(
                429, 8, f"Too many requests: the limit is {limit} a second", retry_after_s=1.0
            )
        seen.extend([now] * count)
