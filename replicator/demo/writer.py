"""
The application's writers: each owns a share of the keys and changes them one at a time, so that
the order of the changes of a key is never in doubt. Beside them searches go on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence

import grpc
import msgspec
from qdrant_client.http.exceptions import ApiException

from replicator import clock
from replicator.demo.corpus import Document
from replicator.demo.embedder import embed
from replicator.demo.emitter import EventSink, event
from replicator.demo.gate import Gate, StoreName
from replicator.demo.oplog import Image, Operation, OperationLog, following
from replicator.demo.schema import Payload, source_payload
from replicator.demo.stores import DocumentStore

_REQUEST_FAILED = (grpc.RpcError, ApiException)
_TRIES = 20
_RETRY_S = 0.1
_HOT_SHARE = 0.3
_HOT_KEYS = 8
"""So many keys of each writer get a third of the changes: neighbours in the log that must not
change places."""


class Tally(msgspec.Struct):
    """What the application has seen, as `GET /stats` tells it."""

    writes: dict[str, int] = msgspec.field(
        default_factory=lambda: {"upsert": 0, "patch": 0, "delete": 0}
    )
    writes_at_target: int = 0
    searches: int = 0
    searches_empty: int = 0
    failed_requests: int = 0
    failures: list[str] = []
    """The first few, in words."""
    longest_write_s: float = 0.0
    """From a user's wish to write until it was done, the wait at the fence included."""
    longest_search_s: float = 0.0

    def failed(self, error: BaseException) -> None:
        """Count a request that the store or the log did not answer as it should."""
        self.failed_requests += 1
        if len(self.failures) < 5:
            self.failures.append(f"{type(error).__name__}: {error}"[:300])


class Workplace(msgspec.Struct, frozen=True):
    """What writers and searchers share."""

    gate: Gate
    stores: Mapping[StoreName, DocumentStore]
    sink: EventSink
    log: OperationLog
    tally: Tally
    documents: Sequence[Document]


class Writer:
    """Changes the documents of one share of the keys."""

    def __init__(
        self,
        place: Workplace,
        images: dict[int, Image],
        *,
        number: int,
        writers: int,
        seed: int,
    ) -> None:
        self._place = place
        self._name = f"writer-{number}"
        self._random = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret, a seed
        self._images = images
        self._deleted: list[int] = []
        self._versions: dict[int, int] = {}
        self._step = writers
        self._next_id = max(images, default=number) + writers

    async def run(self, per_s: float) -> None:
        """Change documents until cancelled, about so many a second."""
        choose = self._random.choices
        kinds: list[Callable[[], Operation]] = [
            self._edit,
            self._insert,
            self._restore,
            self._annotate,
            self._publish_or_hide,
            self._rewrite_text,
            self._remove,
        ]
        while True:
            await asyncio.sleep(self._random.expovariate(per_s))
            await self._place.gate.at_work()
            [make] = choose(kinds, weights=[30, 15, 5, 25, 5, 5, 15])
            await self._carry_out(make())

    async def _carry_out(self, operation: Operation) -> None:
        """
        Write to the store in use, then tell the feed, then the operation log. A request that
        fails is counted and tried again, a few times: the application wants its change.
        """
        place = self._place
        loop = asyncio.get_running_loop()
        asked = loop.time()
        after = following(self._images.get(operation.id), operation)
        async with place.gate.admitted() as route:
            operation.store, operation.epoch = route.active, route.epoch
            operation.at_ms = round(clock.wall() * 1000)
            for _ in range(_TRIES):
                try:
                    await place.stores[route.active].write(operation, after)
                    break
                except _REQUEST_FAILED as error:
                    place.tally.failed(error)
                    await asyncio.sleep(_RETRY_S)
            else:
                return
            await place.sink.emit(*event(operation, self._name))
            place.log.append(operation)
        self._remember(operation, after)
        place.tally.writes[operation.op] += 1
        place.tally.writes_at_target += operation.store == "target"
        place.tally.longest_write_s = max(place.tally.longest_write_s, loop.time() - asked)

    def _remember(self, operation: Operation, after: Image | None) -> None:
        if after is None:
            del self._images[operation.id]
            self._deleted.append(operation.id)
        else:
            self._images[operation.id] = after

    # -- what users do ----------------------------------------------------------------------
    def _edit(self) -> Operation:
        key = self._some_key()
        old = self._images[key].payload
        text = f"{old['text'][:300]} {self._random.choice(self._place.documents).text[:200]}"
        payload = {**old, "text": text, "size": str(len(text)), "edits": old["edits"] + 1}
        return self._upsert(key, payload)

    def _insert(self) -> Operation:
        self._next_id += self._step
        document = self._random.choice(self._place.documents)
        return self._upsert(self._next_id, source_payload(document))

    def _restore(self) -> Operation:
        if not self._deleted:
            return self._insert()
        key = self._deleted.pop(self._random.randrange(len(self._deleted)))
        return self._upsert(key, source_payload(self._random.choice(self._place.documents)))

    def _annotate(self) -> Operation:
        key = self._some_key()
        old = self._images[key].payload
        fields: Payload = {"edits": old["edits"] + 1, "rank": self._random.random()}
        if "note" in old:
            return self._operation("patch", key, set=fields, unset=["note"])
        return self._operation("patch", key, set={**fields, "note": f"seen by {self._name}"})

    def _publish_or_hide(self) -> Operation:
        key = self._some_key()
        hidden = self._images[key].payload["visibility"] == "private"
        fields = {"visibility": "public" if hidden else "private"}
        return self._operation("patch", key, set=fields)

    def _rewrite_text(self) -> Operation:
        text = self._random.choice(self._place.documents).text
        return self._operation(
            "patch",
            self._some_key(),
            vector=embed(text).tobytes(),
            set={"text": text, "size": str(len(text))},
        )

    def _remove(self) -> Operation:
        return self._operation("delete", self._some_key())

    def _upsert(self, key: int, payload: Payload) -> Operation:
        vector = embed(payload["text"]).tobytes()
        return self._operation("upsert", key, vector=vector, payload=payload)

    def _operation(self, op: str, key: int, **parts: object) -> Operation:
        self._versions[key] = self._versions.get(key, 0) + 1
        version = self._versions[key]
        fields = {"op": op, "id": key, "at_ms": 0, "store": "", "version": version, **parts}
        return Operation(**fields)  # type: ignore[arg-type]

    def _some_key(self) -> int:
        keys = list(self._images)
        if self._random.random() < _HOT_SHARE:
            return self._random.choice(keys[:_HOT_KEYS])
        return self._random.choice(keys)


async def search_on(place: Workplace, *, seed: int, per_s: float) -> None:
    """Search the store in use until cancelled. The fence holds up writes only, never this."""
    chance = random.Random(f"{seed}/search")  # noqa: S311 - no secret, a seed
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(chance.expovariate(per_s))
        vector = embed(chance.choice(place.documents).text)
        asked = loop.time()
        try:
            found = await place.stores[place.gate.route.active].search(vector, 10)
        except _REQUEST_FAILED as error:
            place.tally.failed(error)
            continue
        place.tally.searches += 1
        place.tally.searches_empty += not found
        place.tally.longest_search_s = max(place.tally.longest_search_s, loop.time() - asked)
