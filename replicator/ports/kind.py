"""
A kind of store, as the rest of the program knows it before any driver is loaded.

A connector is one folder with a module `kind` that holds one such value, and one line of a
table: `replicator.kinds`, or an entry point of another package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from replicator.model.traits import Traits
from replicator.ports.store import Store


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

    @property
    def name(self) -> str:
        """What `kind = "…"` says."""
        return str(self.settings.__struct_config__.tag)

    @property
    def package(self) -> str:
        """Who brings it."""
        return self.settings.__module__.partition(".")[0]
