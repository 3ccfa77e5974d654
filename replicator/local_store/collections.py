"""The Collections service: what exists, how it is configured, and aliases."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from concurrent.futures import Executor
from pathlib import Path

import msgspec
import qdrant_edge as edge

from replicator.connectors.qdrant.schema import read_vector_schemas
from replicator.connectors.qdrant.wire import Message, wire
from replicator.local_store.answers import (
    already_exists,
    invalid,
    no_collection,
)
from replicator.local_store.limits import Limits
from replicator.local_store.registry import Contents, Registry, StoredCollection
from replicator.local_store.shape import (
    fill_defaults,
    merge_update,
    read_config,
    write_info,
)
from replicator.local_store.shard import Shard
from replicator.model.schema import VectorSchema


class Collection:
    """An open collection: its shard, and what describes it."""

    def __init__(self, name: str, shard: Shard, create: Message) -> None:
        self.name = name
        self.shard = shard
        self.limits = Limits()
        self.configure(create)
        self.operations = 0
        """Number of the last operation, as replies show it."""
        self.payload_bytes = 0
        """Of payloads written since the start: an estimate, as a server's is."""

    def configure(self, create: Message) -> None:
        """Take over a CreateCollection that was changed."""
        self.create = create
        self.shapes: dict[str, VectorSchema] = read_vector_schemas(create)
        self.limits.configure(create.strict_mode_config)


class Collections:
    """
    All collections of a directory, and the methods of the service.

    Changes of what exists go one at a time. A collection is made on disk before it is
    registered, and unregistered before it is removed; what a crash leaves over is swept at the
    start.
    """

    def __init__(self, path: Path, readers: Executor) -> None:
        self._path = path
        self._readers = readers
        self._registry = Registry(path / "registry.json")
        self._open: dict[str, Collection] = {}
        self._changing = asyncio.Lock()

    async def open(self) -> None:
        """Load every collection, and sweep directories that none claims."""
        stored = self._registry.contents.collections
        claimed = {collection.directory for collection in stored.values()}
        await asyncio.to_thread(_sweep, self._path, claimed)
        for name, collection in stored.items():
            create = wire().CreateCollection.FromString(collection.create)
            shard = await Shard.open(self._path / collection.directory, None, self._readers)
            self._open[name] = Collection(name, shard, create)

    async def close(self) -> None:
        """Carry out what is under way, flush and close everything."""
        for collection in self._open.values():
            await collection.shard.close()
        self._open.clear()

    async def flush(self) -> None:
        """Force to disk what was written since the last time."""
        for collection in list(self._open.values()):
            await collection.shard.flush()

    def find(self, name: str) -> Collection:
        """The collection of this name or alias."""
        name = self._registry.contents.aliases.get(name, name)
        try:
            return self._open[name]
        except KeyError:
            raise no_collection(name) from None

    async def create(self, request: Message) -> Message:
        """Make a collection."""
        name = request.collection_name
        if not name:
            raise invalid("Validation error in body: collection_name must not be empty")
        async with self._changing:
            if name in self._open or name in self._registry.contents.aliases:
                raise already_exists(name)
            create = wire().CreateCollection()
            create.CopyFrom(request)
            fill_defaults(create)
            directory = f"shard-{uuid.uuid4().hex}"
            shard = await Shard.open(self._path / directory, read_config(create), self._readers)
            contents = self._contents()
            contents.collections[name] = StoredCollection(directory, create.SerializeToString())
            await self._save(contents)
            self._open[name] = Collection(name, shard, create)
        return wire().CollectionOperationResponse(result=True)

    async def update(self, request: Message) -> Message:
        """Change what can be changed of a collection that is there."""
        async with self._changing:
            collection = self.find(request.collection_name)
            contents = self._contents()
            stored = contents.collections[collection.name]
            merge_update(stored, request)
            await self._save(contents)
            collection.configure(wire().CreateCollection.FromString(stored.create))
            threshold = collection.create.optimizers_config.indexing_threshold
            if threshold and request.HasField("optimizers_config"):
                collection.shard.optimise()
        return wire().CollectionOperationResponse(result=True)

    async def keep_index(
        self, collection: Collection, field: str, schema: bytes | None
    ) -> None:
        """Remember what an index was made with; None forgets it."""
        async with self._changing:
            contents = self._contents()
            indexes = contents.collections[collection.name].indexes
            if schema is None:
                indexes.pop(field, None)
            else:
                indexes[field] = schema
            await self._save(contents)

    def indexes(self, collection: Collection) -> dict[str, Message]:
        """The payload indexes of a collection, each a `PayloadSchemaInfo`."""
        stored = self._registry.contents.collections[collection.name].indexes
        return {
            field: wire().PayloadSchemaInfo.FromString(schema)
            for field, schema in stored.items()
        }

    async def delete(self, request: Message) -> Message:
        """Remove a collection with its aliases; an alias, or nothing, is left alone."""
        name = request.collection_name
        async with self._changing:
            if name not in self._open:
                return wire().CollectionOperationResponse(result=False)
            contents = self._contents()
            del contents.collections[name]
            contents.aliases = {
                alias: target for alias, target in contents.aliases.items() if target != name
            }
            await self._save(contents)
            await self._open.pop(name).shard.drop()
        return wire().CollectionOperationResponse(result=True)

    async def get(self, request: Message) -> Message:
        """Configuration, payload indexes and counts."""
        collection = self.find(request.collection_name)
        engine = await collection.shard.read(edge.EdgeShard.info)
        reply = wire().GetCollectionInfoResponse()
        stored = self._registry.contents.collections[collection.name]
        write_info(reply.result, stored, engine, collection.shard.optimising)
        return reply

    async def list(self, request: Message) -> Message:
        """The names."""
        reply = wire().ListCollectionsResponse()
        for name in self._open:
            reply.collections.add().name = name
        return reply

    async def exists(self, request: Message) -> Message:
        """Whether there is a collection, or an alias, of this name."""
        name = request.collection_name
        reply = wire().CollectionExistsResponse()
        reply.result.exists = name in self._open or name in self._registry.contents.aliases
        return reply

    async def update_aliases(self, request: Message) -> Message:
        """All actions, or none of them."""
        async with self._changing:
            contents = self._contents()
            for action in request.actions:
                self._change_alias(contents.aliases, action)
            await self._save(contents)
        return wire().CollectionOperationResponse(result=True)

    async def list_aliases(self, request: Message) -> Message:
        """All aliases, or those of one collection."""
        one = getattr(request, "collection_name", None)
        if one:
            self.find(one)
        reply = wire().ListAliasesResponse()
        for alias, name in self._registry.contents.aliases.items():
            if one in (None, name):
                reply.aliases.add(alias_name=alias, collection_name=name)
        return reply

    def _change_alias(self, aliases: dict[str, str], action: Message) -> None:
        match action.WhichOneof("action"):
            case "create_alias":
                creation = action.create_alias
                name, alias = creation.collection_name, creation.alias_name
                if name not in self._open:
                    raise no_collection(name)
                if alias in self._open:
                    raise already_exists(alias)
                aliases[alias] = name
            case "delete_alias":
                aliases.pop(action.delete_alias.alias_name, None)
            case "rename_alias":
                renaming = action.rename_alias
                old, new = renaming.old_alias_name, renaming.new_alias_name
                if old not in aliases:
                    raise no_collection(old)
                aliases[new] = aliases.pop(old)
            case _:
                raise invalid("Malformed AliasOperation type")

    def _contents(self) -> Contents:
        return msgspec.json.decode(msgspec.json.encode(self._registry.contents), type=Contents)

    async def _save(self, contents: Contents) -> None:
        await asyncio.to_thread(self._registry.save, contents)


def _sweep(path: Path, claimed: set[str]) -> None:
    for directory in path.glob("shard-*"):
        if directory.name not in claimed:
            shutil.rmtree(directory)
