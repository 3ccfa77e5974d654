"""The suite for stores notices a store that breaks a law, and one that claims too much."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from replicator.model.point import Point
from replicator.model.record import Chunk
from replicator.model.traits import Limits, Traits
from replicator.model.write import Patch, Receipt, Upsert, Write, WriteBatch
from replicator.ports.store import Page, Store
from replicator.testing.memory_client import AttachedStore
from replicator.testing.memory_store import MEMORY, MemoryStore
from replicator.testing.store_conformance import StoreConformance
from tests.testing.test_memory_store_conformance import TestPoorMemoryStore as Poor

POOR = replace(
    Poor.traits,
    limits=Limits(records_max=50, bytes_max=1 << 20),
    live=False,
)
CLAIMS = replace(MEMORY, filters=True, aliases=True)
"""More than a store in memory has."""

NOT_SHOWN = {
    "live": "whether others may write is nothing that a store does",
    "limits.bytes_max": "the suite writes small points",
}
"""Traits of which a store may claim more and pass, each with the reason."""


def each_test(suite: StoreConformance) -> Iterator[tuple[str, Callable[[Store], Any]]]:
    """Every test with each of its parameters, as pytest would run them."""
    for name in dir(suite):
        if name.startswith("test_"):
            test = getattr(suite, name)
            marks = [mark.args for mark in getattr(test, "pytestmark", [])]
            for values in itertools.product(*(values for _, values in marks)):
                given = {key: each for (key, _), each in zip(marks, values, strict=True)}
                yield name, partial(test, **given)


async def noticed(traits: Traits, make: Callable[[], Store], law: str = "") -> str | None:
    """The first test, of those with this in their names, that a store fails which claims these
    traits.
    """

    class Claimed(StoreConformance):
        pass

    Claimed.traits = traits
    for name, test in each_test(Claimed()):
        if law not in name:
            continue
        try:
            await test(make())
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever a test fails by
            return name
    return None


class Boaster(AttachedStore):
    """A client that claims other traits than its store has."""

    def __init__(self, store: MemoryStore, claims: Traits) -> None:
        super().__init__(store)
        self._claims = claims

    @property
    def traits(self) -> Traits:
        return self._claims


def paths(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """The traits in which two stores differ."""
    for name in one.__struct_fields__:
        ours, theirs = getattr(one, name), getattr(other, name)
        if hasattr(ours, "__struct_fields__"):
            yield from paths(ours, theirs, f"{path}{name}.")
        elif ours != theirs:
            yield path + name


def changed(one: Any, other: Any, path: str) -> Any:
    """The one with a single trait of the other."""
    name, _, rest = path.partition(".")
    theirs = getattr(other, name)
    if rest:
        theirs = changed(getattr(one, name), theirs, rest)
    return replace(one, **{name: theirs})


@pytest.mark.parametrize("traits", [MEMORY, POOR], ids=["rich", "poor"])
async def test_a_store_that_claims_what_it_has_passes(traits: Traits) -> None:
    assert await noticed(traits, lambda: MemoryStore(traits=traits).attach()) is None


@pytest.mark.parametrize("path", list(paths(POOR, CLAIMS)))
async def test_a_store_that_claims_more_than_it_has_is_noticed(path: str) -> None:
    claims = changed(POOR, CLAIMS, path)
    found = await noticed(claims, lambda: Boaster(MemoryStore(traits=POOR), claims))
    assert (found is None) is (path in NOT_SHOWN), found


# -- stores that break a law


class Merging(MemoryStore):
    """Chroma's way: the payload fields that are not sent stay."""

    def write(self, collection: str, write: Write) -> bool:
        held = self.points(collection)
        if isinstance(write, Upsert) and (old := held.get(write.id)) is not None:
            payload = old.payload | write.point.payload
            write = Upsert(Point(write.id, write.point.vectors, payload))
        return super().write(collection, write)


class KeepingVectors(MemoryStore):
    """The vectors that are not sent stay."""

    def write(self, collection: str, write: Write) -> bool:
        held = self.points(collection)
        if isinstance(write, Upsert) and (old := held.get(write.id)) is not None:
            vectors = old.vectors | write.point.vectors
            write = Upsert(Point(write.id, vectors, write.point.payload))
        return super().write(collection, write)


class Resurrecting(MemoryStore):
    """A patch of an absent point makes it."""

    def write(self, collection: str, write: Write) -> bool:
        if isinstance(write, Patch) and write.id not in self.points(collection):
            write = Upsert(Point(write.id, write.vectors, write.set))
        return super().write(collection, write)


class Unasked(MemoryStore):
    """The delete of an absent point is told as if something were wrong."""

    def land(self, batch: WriteBatch, number: int) -> Receipt:
        held = {*self.points(batch.collection)}
        receipt = super().land(batch, number)
        absent = tuple(write.id for write in batch.writes if write.id not in held)
        kept = {write.id for write in batch.writes if isinstance(write, Upsert)}
        return Receipt(receipt.rejected, tuple(each for each in absent if each not in kept))


class Rounding(MemoryStore):
    """Integers become floats."""

    def write(self, collection: str, write: Write) -> bool:
        if isinstance(write, Upsert):
            payload = {
                name: float(value) if type(value) is int else value
                for name, value in write.point.payload.items()
            }
            write = Upsert(Point(write.id, write.point.vectors, payload))
        return super().write(collection, write)


class Forgetful(AttachedStore):
    """Chunks cover only what was there when they were cut."""

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        self.seen = {*self._store.points(collection)}
        return await super().split(collection, parts)

    async def scan(
        self, chunk: Chunk, after: str | None, page_rows: int
    ) -> AsyncIterator[Page]:
        async for page in super().scan(chunk, after, page_rows):
            yield Page([point for point in page.points if point.id in self.seen], page.cursor)


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (Merging, "test_an_upsert_replaces_the_whole_point"),
        (KeepingVectors, "test_an_upsert_replaces_every_vector_of_a_point"),
        (Resurrecting, "test_a_patch_of_an_absent_point_writes_nothing"),
        (Unasked, "test_a_delete_of_an_absent_point_is_no_error"),
        (Rounding, "test_a_payload_of_every_json_type_comes_back"),
        (Forgetful, "test_chunks_cover_every_key_once"),
        (Forgetful, "test_an_empty_collection_is_cut_too"),
    ],
)
async def test_a_store_that_breaks_a_law_fails_its_test(broken: type, law: str) -> None:
    def make() -> Store:
        if issubclass(broken, AttachedStore):
            return broken(MemoryStore())
        store = broken()
        assert isinstance(store, MemoryStore)
        return store.attach()

    assert await noticed(MEMORY, make, law) is not None
    assert await noticed(MEMORY, lambda: MemoryStore().attach(), law) is None
