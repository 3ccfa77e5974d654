"""
Chroma's own engine over a folder, without a server.

All work is done by one thread, in the order of the calls: a call that was cancelled is carried
out before anything that is asked for later, so that no write lands late. Nobody else may have
the folder open; a server would not see what is written here, nor we what it writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from replicator.connectors.chroma.api import Found, Metadata, Record, Reply, Wanted, columns
from replicator.connectors.chroma.kind import ChromaSettings
from replicator.errors import OutcomeUnknown, Refused, Rejected, ReplicatorError, Unavailable
from replicator.extras import needed_for

T = TypeVar("T")

_DATABASE = "chroma.sqlite3"
"""By it a folder is known as Chroma's."""

_VALUE_BYTES = 16
"""A value of metadata in a reply, about; texts besides."""


class EmbeddedApi:
    """As `Api`. Opens the folder with the first call; only `create` makes one."""

    def __init__(self, settings: ChromaSettings) -> None:
        self.address = settings.path
        self._folder = Path(settings.path)
        self._tenant, self._database = settings.tenant, settings.database
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chroma")
        self._client: Any = None

    async def check(self) -> str:
        """As in Api. A folder that is not there yet is no obstacle to a target."""
        _package()
        if not self._is_there:
            return str(_package().__version__)
        return str(await self._do(lambda: self._opened().get_version()))

    async def records_max(self) -> int:
        """As in Api."""
        return int(await self._do(lambda: self._opened().get_max_batch_size()))

    async def names(self, offset: int, limit: int) -> list[str]:
        """As in Api."""

        def look() -> list[str]:
            if not self._is_there:
                return []
            return [each.name for each in self._opened().list_collections(limit, offset)]

        return await self._do(look)

    async def find(self, name: str) -> Found | None:
        """As in Api."""

        def look() -> Found | None:
            if not self._is_there:
                return None
            try:
                model = self._by_name(name).get_model()
            except _errors().NotFoundError:
                return None
            return Found(
                id=str(model.id),
                name=model.name,
                dimension=model.dimension,
                configuration=dict(model.configuration_json),
                metadata=dict(model.metadata or {}),
            )

        return await self._do(look)

    async def create(
        self, name: str, configuration: dict[str, Any], metadata: Metadata
    ) -> None:
        """As in Api."""

        def make() -> None:
            self._opened().get_or_create_collection(
                name,
                metadata=metadata or None,
                embedding_function=None,
                configuration=configuration,
            )

        await self._do(make, writes=True)

    async def modify(self, collection: str, metadata: Metadata) -> None:
        """As in Api."""
        await self._do(lambda: self._by_id(collection).modify(metadata=metadata), writes=True)

    async def count(self, collection: str) -> int:
        """As in Api."""
        return int(await self._do(lambda: self._by_id(collection).count()))

    async def page(
        self, collection: str, wanted: Wanted, offset: int, limit: int, *, bounded: bool
    ) -> Reply:
        """As in Api. There is no reply that could be refused before it is here."""
        del bounded
        include = wanted.include

        def read() -> Reply:
            found = self._by_id(collection).get(limit=limit, offset=offset, include=include)
            return _reply(found)

        return await self._do(read)

    async def get(
        self, collection: str, wanted: Wanted, ids: Sequence[str], *, bounded: bool = False
    ) -> Reply:
        """As in Api."""
        del bounded
        assert ids, "without ids everything is asked for"
        include = wanted.include
        return await self._do(
            lambda: _reply(self._by_id(collection).get(ids=list(ids), include=include))
        )

    async def upsert(self, collection: str, records: Sequence[Record]) -> None:
        """As in Api."""
        arguments = _arguments(records)
        await self._do(lambda: self._by_id(collection).upsert(**arguments), writes=True)

    async def update(self, collection: str, records: Sequence[Record]) -> None:
        """As in Api. Vectors are all there or none is, so that those with one go apart."""
        for some in (
            [record for record in records if record.vector is None],
            [record for record in records if record.vector is not None],
        ):
            if some:
                await self._update(collection, _arguments(some))

    async def _update(self, collection: str, arguments: dict[str, Any]) -> None:
        await self._do(lambda: self._by_id(collection).update(**arguments), writes=True)

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        """As in Api."""
        assert ids, "without ids nobody knows what is meant"
        await self._do(lambda: self._by_id(collection).delete(ids=list(ids)), writes=True)

    async def query(
        self, collection: str, vector: Sequence[float], limit: int
    ) -> list[tuple[str, float]]:
        """As in Api."""

        def ask() -> list[tuple[str, float]]:
            found = self._by_id(collection).query(
                query_embeddings=[list(vector)], n_results=limit, include=["distances"]
            )
            return list(zip(found["ids"][0], map(float, found["distances"][0]), strict=True))

        return await self._do(ask)

    async def close(self) -> None:
        """Let go of the folder, once what is under way is done. Idempotent."""

        def let_go() -> None:
            client, self._client = self._client, None
            if client is not None:
                client.close()

        await asyncio.get_running_loop().run_in_executor(self._thread, let_go)

    # -- in the thread ---------------------------------------------------------------------

    @property
    def _is_there(self) -> bool:
        return (self._folder / _DATABASE).exists()

    def _opened(self) -> Any:
        if self._client is None:
            chromadb = _package()
            self._client = chromadb.PersistentClient(
                path=str(self._folder),
                settings=chromadb.config.Settings(anonymized_telemetry=False),
                tenant=self._tenant,
                database=self._database,
            )
        return self._client

    def _by_name(self, name: str) -> Any:
        return self._opened().get_collection(name, embedding_function=None)

    def _by_id(self, collection: str) -> Any:
        return self._opened().get_collection_by_id(collection, embedding_function=None)

    async def _do(self, work: Callable[[], T], *, writes: bool = False) -> T:
        def run() -> T:
            with self._translated(writes=writes):
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    @contextmanager
    def _translated(self, *, writes: bool) -> Iterator[None]:
        errors = _errors()
        try:
            yield
        except ReplicatorError:
            raise
        except errors.NotFoundError as exc:
            code = "target-missing" if writes else "source-missing"
            raise Refused(code, f"{self.address}: {exc}") from exc
        except (errors.InvalidArgumentError, errors.InvalidDimensionException) as exc:
            code = "vector-dimension" if "dimension" in str(exc) else "target-rejected"
            raise Rejected(code, str(exc)) from exc
        except (ValueError, TypeError) as exc:  # what the package finds before it writes
            if writes:
                raise Rejected("target-rejected", str(exc)) from exc
            raise Refused("store-refused", f"{self.address}: {exc}") from exc
        except Exception as exc:  # whatever else the engine may raise
            if writes:
                raise OutcomeUnknown("outcome-unknown", f"{self.address}: {exc}") from exc
            raise Unavailable("store-unavailable", f"{self.address}: {exc}") from exc


def _package() -> Any:
    with needed_for("a folder of Chroma", "chroma"):
        import chromadb  # noqa: PLC0415 - heavy, and only for a folder
        import chromadb.config  # noqa: PLC0415
    return chromadb


def _errors() -> Any:
    return _package().errors


def _reply(found: Any) -> Reply:
    ids = found["ids"]
    nothing: list[None] = [None] * len(ids)

    def column(name: str) -> Any:
        values = found[name]
        return nothing if values is None else values

    records = [
        Record(
            id=each,
            vector=None if vector is None else np.asarray(vector, "<f4").tobytes(),
            metadata=None if metadata is None else dict(metadata),
            document=document,
            uri=uri,
        )
        for each, vector, metadata, document, uri in zip(
            ids,
            column("embeddings"),
            column("metadatas"),
            column("documents"),
            column("uris"),
            strict=True,
        )
    ]
    return Reply(records, sum(map(_bytes_of, records)))


def _bytes_of(record: Record) -> int:
    texts = [record.id, record.document or "", record.uri or ""]
    values = record.metadata or {}
    texts += [value for value in values.values() if isinstance(value, str)]
    lists = [value for value in values.values() if isinstance(value, list)]
    size = len(record.vector or b"") + sum(map(len, texts)) + _VALUE_BYTES * len(values)
    return size + sum(len(str(value)) for value in lists)


def _arguments(records: Sequence[Record]) -> dict[str, Any]:
    """Vectors as arrays; all records have one, or none has."""
    arguments = columns(records)
    if "embeddings" in arguments:
        arguments["embeddings"] = [
            np.frombuffer(vector, "<f4") for vector in arguments["embeddings"]
        ]
    return arguments
