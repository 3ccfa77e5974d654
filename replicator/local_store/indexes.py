"""Payload indexes: CreateFieldIndexCollection → the engine's parameters."""

from __future__ import annotations

from typing import Any

import qdrant_edge as edge

from replicator.connectors.qdrant.wire import Message, wire
from replicator.local_store.answers import invalid, unsupported


def kept_params(request: Message) -> Message:
    """What the collection's info shows of the index: a `PayloadSchemaInfo`."""
    kept = wire().PayloadSchemaInfo()
    kept.data_type = wire().enum("PayloadSchemaType")[_kind(request)]
    if request.HasField("field_index_params"):
        kept.params.CopyFrom(request.field_index_params)
    return kept


def read_index(request: Message) -> Any:
    """An index as the engine takes it: its type, or its parameters."""
    kind = _kind(request)
    chosen = request.field_index_params.WhichOneof("index_params")
    if chosen is None:
        return getattr(edge.PayloadSchemaType, kind)
    if chosen.removesuffix("_index_params").capitalize() != kind:
        raise invalid("field_type and field_index_params do not match")
    params = getattr(request.field_index_params, chosen)
    made: Any = getattr(edge, f"{kind}IndexParams")
    return made(**{field.name: _read(field, value) for field, value in _given(params)})


def as_request(index: Message) -> Message:
    """The request that makes an index of a `PayloadSchemaInfo`."""
    request = wire().CreateFieldIndexCollection(field_type=index.data_type - 1)
    if index.HasField("params"):
        request.field_index_params.CopyFrom(index.params)
    return request


def _kind(request: Message) -> str:
    types = {number: name for name, number in wire().enum("FieldType").items()}
    if not request.HasField("field_type") or request.field_type not in types:
        raise invalid("cannot convert field_type")
    return types[request.field_type].removeprefix("FieldType")


def _given(params: Message) -> list[tuple[Any, Any]]:
    """The fields that say something; an enum's zero is none, where it is called so."""
    return [
        (field, value)
        for field, value in params.ListFields()
        if field.name not in ("tokenizer", "memory") or value != 0
    ]


def _read(field: Any, value: Any) -> Any:
    match field.name:
        case "tokenizer":
            return getattr(edge.TokenizerType, _enum_name(field, value))
        case "memory":
            return getattr(edge.Memory, _enum_name(field, value))
        case "stopwords":
            languages = {_language(edge.Language, each) for each in value.languages}
            return edge.StopwordsSet(languages or None, set(value.custom) or None)
        case "stemmer":
            if value.WhichOneof("stemming_params") == "disabled":
                return edge.DisabledStemmer()
            return edge.SnowballParams(
                _language(edge.SnowballLanguage, value.snowball.language)
            )
        case "scoring":
            return edge.TextScoringParams()
        case "prefix":
            return True  # a message without fields: present means on
        case _ if field.message_type is None:
            return value
        case _:
            raise unsupported(f"index parameter {field.name!r}")


def _enum_name(field: Any, value: int) -> str:
    known = field.enum_type.values_by_number.get(value)
    if known is None:
        raise invalid(f"Malformed {field.name}")
    return str(known.name)


def _language(languages: Any, name: str) -> Any:
    found = getattr(languages, name.capitalize(), None)
    if found is None:
        raise invalid(f"Malformed language: {name}")
    return found
