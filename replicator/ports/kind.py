"""
A kind of store, as the rest of the program knows it before any driver is loaded.

A connector is one folder with a module `kind` that holds one such value, and one line of a
table: `replicator.kinds`, or an entry point of another package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from replicator.model.store_url import StoreUrl
from replicator.model.traits import Traits
from replicator.ports.store import Store


class UrlForm(msgspec.Struct, frozen=True, kw_only=True):
    """How a store of a kind is written as a URL."""

    example: str
    section: Callable[[StoreUrl], dict[str, Any]]
    """The keys of the section that the URL gives, as in TOML. Secrets that it does not give are
    taken from the environment. Raises ValueError with a sentence for a URL that is none of the
    kind's."""
    nameless: str | None = None
    """What stands for the collection without a name, where a kind has one."""


class DirectoryOf(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind of files adds: a store is a directory, and export and import need no more."""

    settings: Callable[[str], Any]
    """The settings of the store in a directory."""
    holds: Callable[[str, str], bool]
    """Whether a directory holds the files of a collection."""


class StoreKind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind. Importing its module loads no driver; `open` does, and connects to nothing."""

    settings: type[Any]
    """Its section in the configuration; the section's tag is the kind's name."""
    traits: Traits
    example: str
    """The section as `replicator init` writes it; `{side}`, `{port}` and `{folder}` are
    filled in."""
    open: Callable[[Any, int], Store]
    """From settings, and the bytes that a page of points may hold, about."""
    aliases: type[Any] | None = None
    """The section of a switch that moves its aliases, where it can move several at once."""
    files: DirectoryOf | None = None
    url: UrlForm | None = None
    """None where a store is named by a section only."""

    @property
    def name(self) -> str:
        """What `kind = "…"` says."""
        return str(self.settings.__struct_config__.tag)

    @property
    def package(self) -> str:
        """Who brings it."""
        return self.settings.__module__.partition(".")[0]
