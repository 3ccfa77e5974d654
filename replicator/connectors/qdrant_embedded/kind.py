"""Qdrant's engine in a folder as a kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from replicator.codecs.file_names import why_no_file
from replicator.model.schema import IdKinds, Precision, VectorKind
from replicator.model.traits import IdRules, Traits, VectorRules
from replicator.ports.kind import StoreKind, UrlForm
from replicator.settings.stores import StoreSettings

if TYPE_CHECKING:
    from replicator.ports.store import Store

_NAME_BYTES_MAX = 240
"""A file system's names end at 255, and a folder that is being made has a longer one."""


class QdrantEmbeddedSettings(
    StoreSettings, tag="qdrant-embedded", tag_field="kind", frozen=True
):
    """
    A folder with one shard of Qdrant's engine (Qdrant Edge) for each collection, opened in this
    process.

    For plain copies. The engine lets one process at a time have a shard open, also to read it.
    A folder of qdrant-client's local mode is another thing, and refused.
    """

    examples = {"path": '"shards"'}  # noqa: RUF012 - a ClassVar
    path: str
    """The folder above the shards; a collection is the shard in the folder of its name. Made
    when absent."""

    def address(self) -> str:
        """The folder."""
        return str(Path(self.path).absolute())

    def problems(self) -> Iterator[tuple[str, str]]:
        """As in StoreSettings."""
        if not self.path:
            yield "path", "is empty"
        elif "://" in self.path:
            yield "path", "is a URL: the engine opens folders of this machine"

    def unfit(self, collection: str) -> str | None:
        """Names that the folder of a shard cannot have."""
        if collection.startswith(".") or not collection:
            return "is no name for a folder of shards: it is empty, or begins with a dot"
        if len(collection.encode()) > _NAME_BYTES_MAX:
            return f"is no name for a folder: it has more than {_NAME_BYTES_MAX} bytes"
        return why_no_file(collection)


def _open(settings: QdrantEmbeddedSettings, page_bytes: int) -> Store:
    from replicator.connectors.qdrant_embedded.store import (  # noqa: PLC0415 - see StoreKind
        QdrantEmbeddedStore,
    )

    return QdrantEmbeddedStore(settings, page_bytes)


QDRANT_EMBEDDED = StoreKind(
    settings=QdrantEmbeddedSettings,
    traits=Traits(
        ids=IdRules(kinds=IdKinds.UINT64 | IdKinds.UUID),
        vectors=VectorRules(
            kinds=frozenset(VectorKind),
            several=True,
            none=True,
            precisions=frozenset(Precision),
            dimensions_max=65_536,  # a server's limit: a shard is to be one's of a server, too
            normalises=True,
        ),
        marks=True,
        patches=False,  # nobody sends it any: it takes plain copies alone
        live=False,
        follows=False,
        indexes=True,
        filters=False,
        exact_search=True,
    ),
    example="""\
kind = "qdrant-embedded"
path = "{folder}"                               # the folder above the shards, for a plain copy
""",
    open=_open,
    url=UrlForm(
        example="qdrant-embedded:///folder/articles",
        section=lambda url: {"path": url.path},
    ),
)
