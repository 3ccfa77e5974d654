"""What files say of the collection that lies in them, beside its points."""

from __future__ import annotations

from typing import Any

import msgspec

from replicator.model.schema import CollectionSchema, VectorSchema


class Layout(msgspec.Struct, frozen=True):
    """
    `vectors` is None where nobody declared them. The settings of the store that the points come
    from are kept in its own words: a file uses none of them, and gives them to a store of that
    kind.
    """

    vectors: dict[str, VectorSchema] | None = None
    indexes: dict[str, str] = {}
    index_options: dict[str, dict[str, Any]] = {}
    native_kind: str | None = None
    native: dict[str, Any] = {}
    restated: tuple[str, ...] = ()
    scoped: bool = False
    """Every row says, in `scope`, which scope its id belongs to. Elsewhere that is a field."""

    @classmethod
    def of(cls, schema: CollectionSchema) -> Layout:
        """What is kept of a schema."""
        return cls(**{name: getattr(schema, name) for name in cls.__struct_fields__})

    def facts(self) -> dict[str, Any]:
        """As fields of a CollectionSchema."""
        return {name: getattr(self, name) for name in self.__struct_fields__}
