"""
The application between two stores of any kinds, and what both must hold.

Ids and payloads are what an application of the source would have. What becomes of them at the
target is computed here, by the public rules: an id that the target does not take is the UUIDv5
of its event key, with the original in `_source_id`; a value that it cannot nest is its JSON.
"""

from __future__ import annotations

import json
import math
import uuid
from typing import Any

import msgspec

from tests.endtoend.application import NAMESPACE, Application, Collection
from tests.endtoend.daemon import Document
from tests.endtoend.events import Sink, event, key
from tests.endtoend.model import Id, Image, Records, differences, float32
from tests.matrix.access import DIMENSION, Access, Entry, Ids

_WRITERS = 4
_TITLES = ("Über Vögel", "花の名前", "On birds", "Des oiseaux 🐦", "Περί ορνίθων")


class Store(msgspec.Struct, frozen=True):
    """A kind, and one that is open."""

    entry: Entry
    access: Access


class PairApplication(Application):
    """Moves with `Application`'s writers, fence and switch."""

    def __init__(
        self,
        stores: tuple[Store, Store],
        sink: Sink,
        collections: list[Collection],
        *,
        seed: int = 1,
    ) -> None:
        clients: tuple[Any, Any] = (stores[0].access, stores[1].access)
        super().__init__(*clients, sink, collections, seed=seed)
        self.stores = stores

    async def create(self, records: int) -> None:
        source, target = self.stores
        for each in self.collections:
            await source.access.create(each.source, source.entry.ids)
            each.records = {self.id_of(n): self.image(n) for n in range(records)}
            await source.access.write(each.source, each.records)
            if self._made_by_hand:
                place = self.place(each, next(iter(each.records)))
                await target.access.create(each.target, Ids.of(place))

    @property
    def _made_by_hand(self) -> bool:
        """The target's collection, which the source does not say enough of."""
        source, target = (each.entry for each in self.stores)
        several = source.mixed and not target.mixed and len(target.accepts) > 1
        return several or (target.needs_schema and not source.schema)

    # -- what there is -------------------------------------------------------------------------

    def image(self, number: int) -> Image:
        self.changes += 1
        vector = [self.random.gauss(0, 1) for _ in range(DIMENSION)]
        # Of length one: an index that is no good for products of others would be no finding.
        length = math.hypot(*vector)
        payload: Document = {
            "title": f"{self.random.choice(_TITLES)} {number}",
            "n": self.changes,
            "score": number + 0.5,
            "draft": number % 2 == 0,
            "tags": ["a", "ñ", "タグ"],
        }
        if self.stores[0].entry.nested:
            payload["deep"] = {"ключ": [1, "zwei", {"drei": None}], "empty": {}}
        return Image(float32([each / length for each in vector]), payload)

    def id_of(self, number: Id) -> Id:
        """As the source has ids; it belongs to the same writer as the number."""
        if not isinstance(number, int) or self.stores[0].entry.ids is Ids.INTEGER:
            return number
        return next(
            each
            for turn in range(1000)
            if hash(each := self._spelled(number, turn)) % _WRITERS == number % _WRITERS
        )

    def _spelled(self, number: int, turn: int) -> str:
        if self.stores[0].entry.ids is Ids.UUID:
            return str(uuid.UUID(int=(number << 32) + turn))
        return f"{self.stores[0].entry.id_begins}{number} {turn}"

    def place(self, collection: Collection, point_id: Id) -> Id:
        """The id at the target."""
        entry, kind = self.stores[1].entry, Ids.of(point_id)
        fits = kind in entry.accepts or (kind is Ids.UUID and Ids.TEXT in entry.accepts)
        if fits and (str(point_id).isascii() or not entry.ascii_ids):
            return point_id
        return str(uuid.uuid5(NAMESPACE, key(collection.source, point_id).decode()))

    def at_target(self, collection: Collection, records: Records) -> Records:
        """The same, as the target has it."""
        return {
            (place := self.place(collection, each)): Image(
                image.vector,
                self._fields(image.payload) | ({} if place == each else {"_source_id": each}),
            )
            for each, image in records.items()
        }

    def _fields(self, payload: Document) -> Document:
        if self.stores[1].entry.nested:
            return dict(payload)
        return {
            name: json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
            for name, value in payload.items()
        }

    # -- changes -------------------------------------------------------------------------------

    async def upsert(self, collection: Collection, point_id: Id) -> None:
        point_id = self.id_of(point_id)
        image = self.image(self.changes)
        collection.records[point_id] = image
        access, name = self._written(collection)
        records = {point_id: image}
        if self.active == "target":
            records = self.at_target(collection, records)
        await access.write(name, records)
        fields = {"vector": image.vector, "payload": image.payload}
        await self._emit(event("upsert", collection.source, point_id, **fields, **self._stamp))

    async def patch(self, collection: Collection, point_id: Id) -> None:
        self.changes += 1
        changed = {"title": f"patché {self.changes}"}
        old = collection.records[point_id]
        payload = {**old.payload, **changed}
        payload.pop("tags", None)
        records = {point_id: Image(old.vector, payload)}
        collection.records.update(records)
        if self.active == "target":
            records = self.at_target(collection, records)
        access, name = self._written(collection)
        [(place, whole)] = records.items()
        await access.patch(name, place, changed, ["tags"], whole)
        fields: Document = {"set": changed, "unset": ["tags"]}
        await self._emit(event("patch", collection.source, point_id, **fields, **self._stamp))

    async def delete(self, collection: Collection, point_id: Id) -> None:
        self.changes += 1
        del collection.records[point_id]
        access, name = self._written(collection)
        at_source = self.active == "source"
        await access.delete(name, point_id if at_source else self.place(collection, point_id))
        if self.changes % 2:
            await self._emit((key(collection.source, point_id), None))
        else:
            await self._emit(event("delete", collection.source, point_id, **self._stamp))

    def _written(self, collection: Collection) -> tuple[Access, str]:
        """The store that the application is on, and the collection's name there."""
        if self.active == "source":
            return self.stores[0].access, collection.source
        return self.stores[1].access, collection.target

    # -- judging -------------------------------------------------------------------------------

    async def differences(self, store: str) -> list[str]:
        told: list[str] = []
        for each in self.collections:
            if store == "source":
                wanted = each.records
                found = await self.stores[0].access.read(each.source)
            else:
                wanted = _unfolded(self.at_target(each, each.records))
                found = _unfolded(await self.stores[1].access.read(each.target))
            told += [f"{store} {each.source}: {one}" for one in differences(wanted, found)]
        return told


def _unfolded(records: Records) -> Records:
    """With the map that may be JSON as a map: a text is as good as it, however it is spaced."""
    return {
        each: Image(
            image.vector,
            {
                name: json.loads(value) if name == "deep" and isinstance(value, str) else value
                for name, value in image.payload.items()
            },
        )
        for each, image in records.items()
    }
