"""Settings of a collection's transform: how a source point becomes a target point."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from replicator.model.scopes import Scopes
from replicator.settings.embedding import ContractSettings, EmbedSettings
from replicator.settings.patterns import OWN_NAME


class TransformSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Steps in this order: filter (on the source's payload), keep, drop, default, cast, rename,
    constant, computed, vectors, truncate, embed. Field names before `rename`, and those of
    `embed`, are the source's; top-level fields, but for `filter`.
    """

    filter: dict[str, Any] | None = None
    """Migrate a subset: Qdrant's `must`, `should`, `must_not`. What no longer matches is
    deleted at the target."""
    keep: list[str] | None = None
    """Only these payload fields travel."""
    drop: list[str] = []
    """These payload fields do not travel."""
    default: dict[str, Any] = {}
    """Value for a field that is missing."""
    cast: dict[str, Literal["int", "float", "str", "bool"]] = {}
    """Change the type of a field; a value that does not fit sends the record to the dead
    letters."""
    rename: dict[str, str] = {}
    """Source field → target field."""
    constant: dict[str, Any] = {}
    """Set these target fields on every point."""
    computed: dict[str, Literal["collection", "scope", "id"]] = {}
    """Target field → what of the point's key it tells: the source's word for the collection,
    the scope (absent where ids have none), or the id."""
    vectors: dict[str, str] | None = None
    """Source vector name → target vector name (`""` is the unnamed one); others do not travel.
    """
    truncate: dict[str, int] = {}
    """Target vector name → how many dimensions are left of it, the first ones, scaled to length
    one: for Matryoshka embeddings, whose beginnings are embeddings."""
    embed: dict[str, EmbedSettings] = {}
    """Target vector name → how it is made anew from texts."""


class CollectionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One collection of the migration."""

    source: str
    """The collection's name at the source; also the first part of every event key. Or a
    pattern, for every collection that the source lists when the migration begins and that
    matches, but for those that another table names: `*` is any text, `?` one character,
    `[a-z]` one of those, `[!a-z]` any but those; a star itself is `[*]`. Of several patterns
    the first that matches counts. `collections = "*"` takes them all."""
    target: str = OWN_NAME
    """Its name at the target; `*` is its name at the source. What a pattern takes has no
    other."""
    ids: Literal["auto", "keep", "mapped"] = "auto"
    """`auto`: keep what the target accepts, else UUIDv5 of the event key with the original id
    in the payload field `_source_id`. `keep`: an id that the target does not accept is refused.
    `mapped`: every id becomes the UUIDv5 of its event key, with the original in `_source_id`
    and the source's word for the collection in `_source_collection`. Several tables may have
    one target if each of them says so."""
    scopes: Literal["*"] | list[str] | None = None
    """Which tenants, partitions or shard keys travel, where ids are unique only within one:
    `"*"` is all, those to come too. Every event key holds its scope then:
    `<collection>/<scope>/<id>`. A collection that has none of them goes without."""
    vectors_required: list[str] | None = None
    """Source vectors that every upsert must bring; an event without is rejected. Learned from
    the source when absent: its only vector, or at least one of several, unless its rows lack
    it. `[]` demands none beyond those that the store itself demands."""
    accept: list[str] = []
    """Losses of configuration that are accepted, by the codes that `check` names. Anything else
    that would be lost stops the migration."""
    source_options: dict[str, Any] = {}
    """How the source keeps the collection, where the collection does not say so itself. Which
    there are depends on the kind of store (docs/connectors.md)."""
    target_options: dict[str, Any] = {}
    """As source_options, at the target; or settings of the target collection, in the target's
    own words, where it is to differ from the source's: a wish is no loss. For Qdrant the fields
    of its API, with `vectors.NAME` and `indexes.FIELD` for those of one vector or payload
    index."""
    transform: TransformSettings = TransformSettings()
    """How points change on their way."""
    embedding: ContractSettings = ContractSettings()
    """Which models the vectors are of: what is not made anew may not change its own."""

    @property
    def travelling(self) -> Scopes | None:
        """The scopes that travel; None where the keys of the collection hold none."""
        if self.scopes is None:
            return None
        return Scopes() if self.scopes == "*" else Scopes(frozenset(self.scopes))
