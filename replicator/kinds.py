"""
The kinds of stores there are: one line each, and those that other packages bring.

A package of its own registers a kind as an entry point of the group `replicator.stores`, whose
name is the kind's and whose value leads to a `StoreKind`. Nothing else in the program names a
kind of store.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType

from replicator.errors import Refused
from replicator.extras import needed_for
from replicator.ports.kind import DirectoryOf, StoreKind
from replicator.ports.store import Store
from replicator.settings.cutover import AliasSettings
from replicator.settings.stores import StoreSettings
from replicator.settings.variants import Variants, kind_of

GROUP = "replicator.stores"

_OURS = (
    "replicator.connectors.qdrant.kind:QDRANT",
    "replicator.connectors.qdrant_embedded.kind:QDRANT_EMBEDDED",
    "replicator.connectors.chroma.kind:CHROMA",
    "replicator.connectors.pgvector.kind:PGVECTOR",
    "replicator.connectors.pinecone.kind:PINECONE",
    "replicator.connectors.milvus.kind:MILVUS",
    "replicator.connectors.weaviate.kind:WEAVIATE",
    "replicator.connectors.jsonl.kind:JSONL",
    "replicator.connectors.parquet.kind:PARQUET",
)


@cache
def kinds() -> MappingProxyType[str, StoreKind]:
    """
    Every kind by name, ours first. Raises Refused("kind-broken") for a package whose kind
    cannot be loaded, or has the name of another.
    """
    found: dict[str, StoreKind] = {}
    for path in _OURS:
        module, _, name = path.partition(":")
        kind: StoreKind = getattr(import_module(module), name)
        found[kind.name] = kind
    for entry in entry_points(group=GROUP):
        origin = f"the store kind {entry.name!r} of {entry.value}"
        try:
            kind = entry.load()
        except Exception as exc:  # whatever another package's import may raise
            raise Refused("kind-broken", f"{origin} cannot be loaded: {exc}") from exc
        if not isinstance(kind, StoreKind):
            raise Refused("kind-broken", f"{origin} is no StoreKind")
        if kind.name != entry.name:
            raise Refused("kind-broken", f"{origin} calls itself {kind.name!r}")
        if kind.settings.address is StoreSettings.address:
            raise Refused("kind-broken", f"{origin} has settings without an address()")
        if kind.name in found:
            raise Refused("kind-broken", f"{origin} has the name of another")
        found[kind.name] = kind
    return MappingProxyType(found)


@cache
def variants() -> Variants:
    """The sections that the kinds bring, for the reading of a configuration."""
    return {
        StoreSettings: {name: kind.settings for name, kind in kinds().items()},
        AliasSettings: {
            str(kind.aliases.__struct_config__.tag): kind.aliases
            for kind in kinds().values()
            if kind.aliases is not None
        },
    }


def file_kinds() -> dict[str, DirectoryOf]:
    """The kinds whose stores are directories of files, by name."""
    return {name: kind.files for name, kind in kinds().items() if kind.files is not None}


def kind_for(settings: StoreSettings) -> StoreKind:
    """The kind that a section is of."""
    return kinds()[kind_of(settings)]


def open_store(settings: StoreSettings, page_bytes: int) -> Store:
    """
    The connector of a store. `page_bytes`: what a page of points may hold, about. Raises
    Refused("extra-missing") without its driver; ours are in the extra of the kind's name.
    """
    kind = kind_for(settings)
    if kind.package != "replicator":
        return kind.open(settings, page_bytes)
    with needed_for(f"the store kind {kind.name!r}", kind.name):
        return kind.open(settings, page_bytes)
