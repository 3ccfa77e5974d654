"""The Collections service: what exists, how it is configured, and aliases."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import msgspec
import qdrant_edge as edge

from replicator.connectors.qdrant.schema import read_vector_schemas
from replicator.connectors.qdrant.wire import Message, wire
from replicator.local_store import shard_keys
from replicator.local_store.answers import (
    already_exists,
    invalid,
    no_collection,
)
from replicator.local_store.indexes import as_request, read_index
from replicator.local_store.limits import Limits
from replicator.local_store.registry import Contents, Registry, StoredCollection
from replicator.local_store.shape import (
    fill_defaults,
    merge_update,
    read_config,
    write_info,
)
from replicator.local_store.shard import Shard
from replicator.local_store.shard_keys import is_custom, key_of, name_of
from replicator.model.schema import Distance, VectorSchema


class Collection:
    """An open collection: its shards by their keys, and what describes it."""

    def __init__(self, name: str, shards: dict[str, Shard], create: Message) -> None:
        self.name = name
        self.shards = shards
        self.limits = Limits()
        self.configure(create)
        self.operations = 0
        """Number of the last operation, as replies show it."""
        self.payload_bytes = 0
        """Of payloads written since the start: an estimate, as a server's is."""

    def written(self, operation: Message) -> list[Shard]:
        """The shards that an operation writes."""
        names = shard_keys.written(operation, self.create, self.shards)
        return [self.shards[name] for name in names]

    def read(self, request: Message) -> dict[str, Shard]:
        """The shards that a request reads, by their keys."""
        return {name: self.shards[name] for name in shard_keys.read(request, self.shards)}

    def larger_is_nearer(self, vector: str) -> bool:
        """What the scores of searches by a vector mean."""
        shape = self.shapes.get(vector)
        distance = shape.distance if shape is not None else None
        return distance not in (Distance.EUCLID, Distance.MANHATTAN)

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
        claimed = {
            directory
            for collection in stored.values()
            for directory in collection.directories.values()
        }
        await asyncio.to_thread(_sweep, self._path, claimed)
        for name, collection in stored.items():
            create = wire().CreateCollection.FromString(collection.create)
            shards = {
                key: await Shard.open(self._path / directory, None, self._readers)
                for key, directory in collection.directories.items()
            }
            self._open[name] = Collection(name, shards, create)

    async def close(self) -> None:
        """Carry out what is under way, flush and close everything."""
        for collection in self._open.values():
            for shard in collection.shards.values():
                await shard.close()
        self._open.clear()

    async def flush(self) -> None:
        """Force to disk what was written since the last time."""
        for collection in list(self._open.values()):
            for shard in list(collection.shards.values()):
                await shard.flush()

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
            config, directory = read_config(create), ""
            shards: dict[str, Shard] = {}
            if not is_custom(create):
                directory, shards[""] = await self._new_shard(config)
            contents = self._contents()
            contents.collections[name] = StoredCollection(directory, create.SerializeToString())
            await self._save(contents)
            self._open[name] = Collection(name, shards, create)
        return wire().CollectionOperationResponse(result=True)

    async def _new_shard(self, config: edge.EdgeConfig) -> tuple[str, Shard]:
        directory = f"shard-{uuid.uuid4().hex}"
        return directory, await Shard.open(self._path / directory, config, self._readers)

    async def create_key(self, request: Message) -> Message:
        """Make a shard key, with the indexes that the collection has."""
        async with self._changing:
            collection = self.find(request.collection_name)
            key = name_of(request.request.shard_key)
            if not is_custom(collection.create):
                raise invalid(
                    "Bad request: Shard Key cannot be created with Auto sharding method"
                )
            if key in collection.shards:
                raise invalid(
                    f"Bad request: Sharding key {key} already exists for collection "
                    f"{collection.name}"
                )
            directory, shard = await self._new_shard(read_config(collection.create))
            for field, index in self.indexes(collection).items():
                operation = edge.UpdateOperation.create_field_index(
                    field, read_index(as_request(index))
                )
                await shard.write(partial(_apply, operation))
            contents = self._contents()
            contents.collections[collection.name].keys[key] = directory
            await self._save(contents)
            collection.shards[key] = shard
        return wire().CreateShardKeyResponse(result=True)

    async def delete_key(self, request: Message) -> Message:
        """Remove a shard key with its points."""
        async with self._changing:
            collection = self.find(request.collection_name)
            key = name_of(request.request.shard_key)
            if key not in collection.shards or not key:
                raise invalid(
                    f"Bad request: Sharding key {key} does not exist for collection "
                    f"{collection.name}"
                )
            contents = self._contents()
            del contents.collections[collection.name].keys[key]
            await self._save(contents)
            await collection.shards.pop(key).drop()
        return wire().DeleteShardKeyResponse(result=True)

    async def list_keys(self, request: Message) -> Message:
        """The shard keys; of automatic sharding there are none."""
        collection = self.find(request.collection_name)
        reply = wire().ListShardKeysResponse()
        for key in filter(None, collection.shards):
            reply.shard_keys.add().key.CopyFrom(key_of(key))
        return reply

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
                for shard in collection.shards.values():
                    shard.optimise()
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
            for shard in self._open.pop(name).shards.values():
                await shard.drop()
        return wire().CollectionOperationResponse(result=True)

    async def get(self, request: Message) -> Message:
        """Configuration, payload indexes and counts."""
        collection = self.find(request.collection_name)
        shards = list(collection.shards.values())
        engines = [await shard.read(edge.EdgeShard.info) for shard in shards]
        reply = wire().GetCollectionInfoResponse()
        stored = self._registry.contents.collections[collection.name]
        write_info(reply.result, stored, engines, any(shard.optimising for shard in shards))
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


def _apply(operation: edge.UpdateOperation, shard: edge.EdgeShard) -> None:
    shard.update(operation)


def _sweep(path: Path, claimed: set[str]) -> None:
    for directory in path.glob("shard-*"):
        if directory.name not in claimed:
            shutil.rmtree(directory)
