"""
A class, as its document says it: which properties and vectors it has, and what we left there.

What is ours stands behind a person's words in the description of the class, as one line of
JSON in brackets: our mark, and the dimensions of vectors, which a class says nowhere. It goes
with the class, and comes with it alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from replicator.connectors.weaviate.kind import WeaviateOptions
from replicator.model.schema import Mark, VectorKind

DEFAULT = "default"
"""The vector that the vendor's clients write where no name is given. A class that has it alone
has it without a name."""

REST = "Every other field of a point, as JSON (vector-replicator)."
"""The description by which a property of ours is known."""

_SAID = re.compile(r"\n?\[vector-replicator (\{.*\})\]\s*$", re.DOTALL)


class Property(msgspec.Struct, frozen=True):
    """A property, or one within an object. `type` in Weaviate's words: `text`, `int[]`…"""

    name: str
    type: str
    tokenization: str | None = None
    indexed: bool = False
    nested: dict[str, Property] = {}

    @property
    def element(self) -> str:
        """The type without the brackets of a list."""
        return self.type.removesuffix("[]")

    @property
    def is_list(self) -> bool:
        """Whether its values are lists."""
        return self.type.endswith("[]")


class ClassVector(msgspec.Struct, frozen=True):
    """A vector. `wire`: its name in the class; None for that of a class without named ones."""

    wire: str | None
    kind: VectorKind
    document: dict[str, Any]
    """`vectorIndexType`, `vectorIndexConfig` and `vectorizer`."""


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """What we left in the description."""

    made: bool = False
    sizes: dict[str, int] = {}
    mark: Mark | None = None


class Class(msgspec.Struct, frozen=True, kw_only=True):
    """A class. `rest`: the property that holds what no other can."""

    name: str
    document: dict[str, Any]
    properties: dict[str, Property]
    left: tuple[str, ...]
    """Properties that are nothing of a point: references, and what the server computes."""
    vectors: dict[str, ClassVector]
    rest: str | None
    tenants: bool
    said: Said

    @property
    def factor(self) -> int:
        """How many replicas there are of a shard."""
        return int((self.document.get("replicationConfig") or {}).get("factor") or 1)


def read_class(document: dict[str, Any], options: WeaviateOptions) -> Class:
    """Raises nothing: what is not understood of a document is left out."""
    properties: dict[str, Property] = {}
    left: list[str] = []
    rest = None
    for each in document.get("properties") or ():
        read = _property(each)
        if each["name"] == options.payload or (
            not options.payload and each.get("description") == REST
        ):
            rest = each["name"]
        elif read is None:
            left.append(each["name"])
        else:
            properties[read.name] = read
    return Class(
        name=document["class"],
        document=document,
        properties=properties,
        left=tuple(left),
        vectors=dict(_vectors(document)),
        rest=rest,
        tenants=bool((document.get("multiTenancyConfig") or {}).get("enabled")),
        said=read_said(document.get("description") or ""),
    )


def read_said(description: str) -> Said:
    """What we left in a description; nothing where that is not ours."""
    found = _SAID.search(description)
    if found is None:
        return Said()
    try:
        return msgspec.json.decode(found[1], type=Said)
    except msgspec.MsgspecError:
        return Said()


def write_said(description: str, said: Said) -> str:
    """A description with what we leave there, behind the words of others."""
    words = _SAID.sub("", description)
    if said == Said():
        return words
    line = f"[vector-replicator {msgspec.json.encode(said).decode()}]"
    return f"{words}\n{line}" if words else line


_HELD = frozenset(
    {"text", "string", "int", "number", "boolean", "date", "uuid", "blob", "geoCoordinates"}
)
_LISTED = _HELD - {"blob", "geoCoordinates"}


def _property(document: Mapping[str, Any]) -> Property | None:
    """None for what is nothing of a point."""
    types = document.get("dataType") or []
    if len(types) != 1:
        return None
    [kind] = types
    element = kind.removesuffix("[]")
    nested: dict[str, Property] = {}
    if element == "object":
        for each in document.get("nestedProperties") or ():
            if (within := _property(each)) is None:
                return None
            nested[within.name] = within
    elif element not in (_LISTED if kind.endswith("[]") else _HELD):
        return None
    indexed = bool(document.get("indexFilterable") or document.get("indexSearchable"))
    return Property(document["name"], kind, document.get("tokenization"), indexed, nested)


def _vectors(document: Mapping[str, Any]) -> Iterator[tuple[str, ClassVector]]:
    named = document.get("vectorConfig") or {}
    if document.get("vectorIndexType") or not named:
        words = ("vectorIndexType", "vectorIndexConfig", "vectorizer")
        yield "", _vector(None, {word: document.get(word) for word in words})
    for name, each in named.items():
        alone = len(named) == 1 and not document.get("vectorIndexType")
        yield "" if alone and name == DEFAULT else name, _vector(name, each)


def _vector(wire: str | None, document: dict[str, Any]) -> ClassVector:
    index = document.get("vectorIndexConfig") or {}
    is_multi = bool((index.get("multivector") or {}).get("enabled"))
    kind = VectorKind.MULTI if is_multi else VectorKind.DENSE
    return ClassVector(wire, kind, document)
