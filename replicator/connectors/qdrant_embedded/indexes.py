"""
Payload indexes: the engine's objects ↔ documents of what was chosen.

An index is made by the class that the engine has for its type, from the arguments that the
class has; a document holds those that were given, under their names, and enum values by theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import qdrant_edge as edge

from replicator.errors import Refused
from replicator.model.schema import CollectionSchema

_ENUMS = {"tokenizer": "TokenizerType", "memory": "Memory"}
"""Argument → the engine's enum."""


def create_indexes(schema: CollectionSchema) -> list[edge.UpdateOperation]:
    """What makes the indexes of a planned collection."""
    return [
        edge.UpdateOperation.create_field_index(
            field, _written(field, kind, schema.index_options.get(field, {}))
        )
        for field, kind in schema.indexes.items()
    ]


def kind_of(index: edge.PayloadIndexInfo) -> str:
    """The store-neutral type of an index."""
    return _name(index.data_type).lower()


def options_of(index: edge.PayloadIndexInfo) -> dict[str, Any]:
    """What was chosen for an index; nothing where everything is as by default."""
    if index.params is None:
        return {}
    given = {name: getattr(index.params, name) for name in _arguments(type(index.params))}
    return {name: _read(value) for name, value in given.items() if value is not None}


def check_options(field: str, kind: str, options: Mapping[str, Any]) -> None:
    """Raises Refused("config-invalid") for an option that the engine does not have."""
    _written(field, kind, options)


def has_type(kind: str) -> bool:
    """Whether the engine has indexes of this store-neutral type."""
    return hasattr(edge.PayloadSchemaType, kind.capitalize())


def _written(field: str, kind: str, options: Mapping[str, Any]) -> Any:
    if not options:
        return getattr(edge.PayloadSchemaType, kind.capitalize())
    made = getattr(edge, f"{kind.capitalize()}IndexParams")
    for name in options:
        if name not in _arguments(made):
            raise Refused(
                "config-invalid", f"indexes.{field}.{name} is no setting of a {kind} index"
            )
    try:
        return made(**{name: _write(name, value) for name, value in options.items()})
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise Refused("config-invalid", f"indexes.{field} cannot be made: {exc}") from exc


def _arguments(made: Any) -> list[str]:
    return list(signature(made).parameters)


def _read(value: Any) -> Any:
    match value:
        case bool() | int() | str():
            return value
        case edge.StopwordsSet():
            languages = sorted(map(_name, value.languages or ()))
            return {"languages": languages, "custom": sorted(value.custom or ())}
        case edge.SnowballParams():
            return {"snowball": _name(value.language)}
        case edge.DisabledStemmer():
            return {"disabled": True}
        case edge.TextScoringParams():
            return {"type": _name(value.type)}
        case _:
            return _name(value)


def _write(name: str, value: Any) -> Any:
    match name:
        case "stopwords" if isinstance(value, Mapping):
            languages = {getattr(edge.Language, each) for each in value["languages"]}
            return edge.StopwordsSet(languages or None, set(value["custom"]) or None)
        case "stopwords":
            return getattr(edge.Language, value)
        case "stemmer" if "disabled" in value:
            return edge.DisabledStemmer()
        case "stemmer":
            return edge.SnowballParams(getattr(edge.SnowballLanguage, value["snowball"]))
        case "scoring":
            return edge.TextScoringParams(getattr(edge.TextScoringType, value["type"]))
        case _ if name in _ENUMS:
            return getattr(getattr(edge, _ENUMS[name]), value)
        case _:
            return value


def _name(value: Any) -> str:
    """Of an enum's value: the engine shows it as `Class.Name`."""
    return str(value).rpartition(".")[2]
