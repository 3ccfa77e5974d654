"""
What a store of given traits can hold: collections, and writes to them.

For connectors whose store would take what it cannot hold without a word, and for the fakes.
What no store can carry is judged elsewhere (`validation`, `payload`), for events and for rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from replicator.codecs.numeric import has_negative, is_zero
from replicator.codecs.payload import join
from replicator.codecs.validation import validate_unset, validate_vectors
from replicator.errors import Refused, Rejected
from replicator.model.point import SparseVector, Vectors
from replicator.model.schema import CollectionSchema
from replicator.model.traits import Lists, PayloadRules, Traits, VectorRules
from replicator.model.write import Delete, Patch, Upsert, Write


def check_collection(wanted: CollectionSchema, rules: VectorRules) -> None:
    """Raises Refused("unsupported") for vectors that no collection of the store can have."""
    vectors = wanted.vectors or {}
    foreign = {vector.kind for vector in vectors.values()} - rules.kinds
    if foreign:
        kinds = " and ".join(sorted(kind.value for kind in foreign))
        raise Refused("unsupported", f"the store holds no {kinds} vectors")
    if not rules.several and (len(vectors) > 1 or any(vectors)):
        raise Refused("unsupported", "a point has one vector here, which has no name")
    if not rules.unnamed and "" in vectors:
        raise Refused("unsupported", "every vector has a name here")
    for name, vector in vectors.items():
        if rules.dimensions_max is not None and (vector.size or 0) > rules.dimensions_max:
            raise Refused(
                "unsupported",
                f"the vector {name!r} has {vector.size} dimensions, and the store holds up to"
                f" {rules.dimensions_max}",
            )


def check_write(write: Write, schema: CollectionSchema, traits: Traits) -> None:
    """
    Judge a write against a collection that the store describes so. Raises Rejected with the
    path of what it cannot hold: `id-invalid`, the codes of `validate_vectors`, `field-type`
    for a map or a list, and `field-invalid` for other values and sparse indices.
    """
    if not schema.holds(write.id):
        raise Rejected("id-invalid", f"the store holds {schema.ids_in_words}", "id")
    match write:
        case Upsert(point=point):
            validate_vectors(point.vectors, schema.vectors, whole=True)
            if not point.vectors and not traits.vectors.none:
                raise Rejected("vector-missing", "vectors: there are none", "vectors")
            _check_sparse(point.vectors, traits.vectors)
            check_zeros(point.vectors, traits.vectors)
            check_payload_rules(point.payload, traits.payload)
        case Patch():
            validate_vectors(write.vectors, schema.vectors, whole=False)
            validate_unset(write.unset_vectors, schema.vectors)
            _check_sparse(write.vectors, traits.vectors)
            check_zeros(write.vectors, traits.vectors)
            check_payload_rules(write.set, traits.payload, "set")
        case Delete():
            pass


def _check_sparse(vectors: Vectors, rules: VectorRules) -> None:
    """Of sparse vectors that are ones: their indices ascend."""
    for name, vector in vectors.items():
        if isinstance(vector, SparseVector) and vector.indices:
            if not rules.negative and has_negative(vector.values):
                path = join("vectors", name)
                raise Rejected(
                    "field-invalid",
                    f"{path} has a component below zero, which the store cannot hold",
                    path,
                )
            last = int.from_bytes(vector.indices[-4:], "little")
            if last >= rules.sparse_dimensions_max:
                path = join("vectors", name)
                raise Rejected(
                    "field-invalid",
                    f"{path} has the index {last}, and those of the store are below"
                    f" {rules.sparse_dimensions_max}",
                    path,
                )


def check_zeros(vectors: Vectors, rules: VectorRules) -> None:
    """Raises Rejected("vector-zero") for a dense vector of zeros that the store cannot hold."""
    if rules.zero:
        return
    for name, vector in vectors.items():
        if isinstance(vector, bytes) and is_zero(vector):
            path = join("vectors", name)
            raise Rejected("vector-zero", f"{path} is of zeros alone", path)


def check_payload_rules(
    payload: dict[str, Any], rules: PayloadRules, path: str = "payload"
) -> None:
    """
    Raises Rejected with the path of a value that the rules do not allow. The payload is JSON
    already (`payload.check_payload`).
    """
    for at, key, value in _values(payload, path):
        if key is not None and rules.keys and not re.fullmatch(rules.keys, key):
            raise Rejected("field-invalid", f"{at} is no key that the store can hold", at)
        match value:
            case dict() if not rules.nested and value is not payload:
                raise Rejected("field-type", f"{at} is a map, which the store cannot hold", at)
            case list() | tuple() if not _may_be_listed(value, rules.lists):
                raise Rejected("field-type", f"{at} is a list that the store cannot hold", at)
            case str() if not rules.nul and "\0" in value:
                raise Rejected("field-invalid", f"{at} holds U+0000", at)
            case int() if not _is_within(value, rules.integer_max):
                raise Rejected("field-invalid", f"{at} is larger than the store can hold", at)
            case _:
                pass


def _values(payload: dict[str, Any], path: str) -> Iterator[tuple[str, str | None, object]]:
    """The payload and all within it, each with its path, and its key where it has one."""
    waiting: list[tuple[str, str | None, object]] = [(path, None, payload)]
    while waiting:
        at, key, value = waiting.pop()
        yield at, key, value
        if isinstance(value, dict):
            waiting += [(join(at, name), name, each) for name, each in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(join(at, place), None, each) for place, each in enumerate(value)]


def fits_shape(value: object, rules: PayloadRules) -> bool:
    """Whether the rules allow the maps and the lists of a value, whatever else it holds."""
    if isinstance(value, dict):
        return rules.nested and all(fits_shape(each, rules) for each in value.values())
    if isinstance(value, list | tuple):
        return _may_be_listed(value, rules.lists) and all(
            fits_shape(each, rules) for each in value
        )
    return True


def _may_be_listed(values: list[Any] | tuple[Any, ...], lists: Lists) -> bool:
    types = {type(value) for value in values}
    match lists:
        case Lists.ANY:
            return True
        case Lists.ALIKE:
            return len(types) == 1 and types <= {str, int, float, bool}
        case Lists.TEXTS:
            return types <= {str}
        case Lists.NONE:
            return False


def _is_within(number: int, largest: int | None) -> bool:
    return largest is None or -largest - 1 <= number <= largest
