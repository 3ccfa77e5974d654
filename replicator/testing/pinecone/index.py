"""
The records of an index: what was written, and what shows of it.

The service is eventually consistent. A write is durable when it is answered, has a number
(LSN), and shows in reads some time later; writes of one namespace show in the order of their
numbers.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import msgspec

from replicator.testing.pinecone.filters import Test
from replicator.testing.pinecone.records import Metadata, Record, Refusal, Sparse, bad

Change = Callable[[dict[str, Record]], None]


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """What an update sets; what is None stays. A key of the metadata cannot be taken away."""

    values: list[float] | None = None
    sparse: Sparse | None = None
    metadata: Metadata | None = None

    def of(self, record: Record) -> Record:
        """The record afterwards."""
        metadata = record.metadata
        if self.metadata is not None:
            metadata = {**(metadata or {}), **self.metadata}
        return Record(
            id=record.id,
            values=self.values if self.values is not None else record.values,
            sparse=self.sparse if self.sparse is not None else record.sparse,
            metadata=metadata,
        )


class Namespace:
    """One namespace of an index."""

    def __init__(self) -> None:
        self._shown: dict[str, Record] = {}
        self._pending: deque[tuple[float, int, Change]] = deque()
        self._written: dict[str, Record] = {}
        self.reconciled = 0
        """The number of the last write that shows."""

    def write(self, change: Change, lsn: int, shows_at: float) -> None:
        """Durable now; in what is read from then on."""
        change(self._written)
        self._pending.append((shows_at, lsn, change))

    def shown(self, now: float) -> dict[str, Record]:
        """What a read sees."""
        while self._pending and self._pending[0][0] <= now:
            _, self.reconciled, change = self._pending.popleft()
            change(self._shown)
        return self._shown

    @property
    def written(self) -> dict[str, Record]:
        """What will show once every write does: for a test to look at."""
        return self._written


class Index:
    """One index. `dimension` is None where it holds sparse vectors alone."""

    def __init__(
        self,
        name: str,
        *,
        dimension: int | None,
        metric: str,
        clock: Callable[[], float],
        staleness_s: float,
    ) -> None:
        self.name = name
        self.dimension = dimension
        self.metric = metric
        self.namespaces: dict[str, Namespace] = {}
        self.staleness_s = staleness_s
        """How long a write is not shown."""
        self._clock = clock
        self._lsn = 0

    # -- writes: each gives its number ------------------------------------------------------

    def upsert(self, namespace: str, records: Sequence[Record]) -> int:
        """Makes the namespace. Of one id twice in a request the later one is kept."""
        found = {record.id: record for record in records}
        return self._write(
            self.namespaces.setdefault(namespace, Namespace()), lambda held: held.update(found)
        )

    def update(self, namespace: str, vector_id: str, update: Update) -> int:
        """An id that is not there stays so, without a word."""

        def change(held: dict[str, Record]) -> None:
            if vector_id in held:
                held[vector_id] = update.of(held[vector_id])

        return self._write(self._existing(namespace), change)

    def update_where(self, namespace: str, test: Test, update: Update) -> tuple[int, int]:
        """Also how many records it met."""
        there = self._existing(namespace)
        met = [each.id for each in there.written.values() if test(each.metadata or {})]

        def change(held: dict[str, Record]) -> None:
            for vector_id in met:
                if vector_id in held:
                    held[vector_id] = update.of(held[vector_id])

        return self._write(there, change), len(met)

    def delete(self, namespace: str, ids: Iterable[str]) -> int:
        """An id that is not there is no error; a namespace that is not there is."""
        return self._write(self._existing(namespace), partial(_without, list(ids)))

    def delete_where(self, namespace: str, test: Test | None) -> int:
        """Every record with None; the namespace stays."""
        there = self._existing(namespace)
        met = [
            each.id
            for each in there.written.values()
            if test is None or test(each.metadata or {})
        ]
        return self._write(there, partial(_without, met))

    def _write(self, namespace: Namespace, change: Change) -> int:
        self._lsn += 1
        namespace.write(change, self._lsn, self._clock() + self.staleness_s)
        return self._lsn

    def _existing(self, namespace: str) -> Namespace:
        """
        Seen by many on deletes (pinecone-ts-client #324, dokuwiki-plugin-aichat #12); that an
        update answers the same is assumed.
        """
        found = self.namespaces.get(namespace)
        if found is None:
            raise Refusal(404, 5, "Namespace not found")
        return found

    # -- reads ------------------------------------------------------------------------------

    def shown(self, namespace: str) -> dict[str, Record]:
        """What a read sees; nothing of a namespace that is not there."""
        found = self.namespaces.get(namespace)
        return {} if found is None else found.shown(self._clock())

    def reconciled(self, namespace: str) -> int:
        """The number that a search answers."""
        found = self.namespaces.get(namespace)
        return 0 if found is None else found.reconciled

    def page_of_ids(
        self, namespace: str, prefix: str, limit: int, token: str | None
    ) -> tuple[list[str], str | None]:
        """Ids in the order of their bytes, behind those of the token. No snapshot."""
        return page(
            [each for each in self.shown(namespace) if each.startswith(prefix)], limit, token
        )


def page(names: Iterable[str], limit: int, token: str | None) -> tuple[list[str], str | None]:
    """A page of names in order, and the token of the next one; None behind the last."""
    after = None if token is None else _opened(token)
    rest = sorted(each for each in names if after is None or each > after)
    found = rest[:limit]
    return found, _sealed(found[-1]) if len(rest) > limit else None


def _sealed(name: str) -> str:
    return base64.urlsafe_b64encode(b"after:" + name.encode()).decode()


def _opened(token: str) -> str:
    try:
        kind, _, name = base64.urlsafe_b64decode(token).partition(b":")
    except binascii.Error:
        kind, name = b"", b""
    if kind != b"after":
        raise bad("Invalid pagination token")
    return name.decode()


def _without(ids: list[str], held: dict[str, Record]) -> None:
    for vector_id in ids:
        held.pop(vector_id, None)
