"""
What the settings of every kind of store share.

Which kinds there are is no business of the settings: each brings its own section, in its own
folder, and the reading of a file is told of them (`settings.variants`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import msgspec

from replicator.settings.variants import kind_of


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section [source] or [target]; which keys it has depends on its kind."""

    examples: ClassVar[Mapping[str, str]] = {}
    """Values for keys that have no default to show, as TOML."""
    options: ClassVar[type[msgspec.Struct] | None] = None
    """How a collection is kept at this kind of store, where it does not say so itself:
    `source_options` and `target_options`. None where a collection says all there is."""

    def address(self) -> str:
        """Where the store is, equal for two spellings of one place."""
        raise NotImplementedError

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the settings: a key, and why its value does not fit."""
        yield from ()

    def unfit(self, collection: str) -> str | None:
        """Why no collection of the store can have this name; None where one can. The empty one
        is that of a collection only where a kind says so: the default namespace, say.
        """
        return None if collection else "is empty"


def store_address(store: StoreSettings) -> tuple[str, str]:
    """Kind and place of a store."""
    return kind_of(store), store.address()
