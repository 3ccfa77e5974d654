"""
What the columns of a part mean (`codecs.rows`, and the options of the collection), and the rows
of a batch by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa

from replicator.codecs.keys import canonical_id, check_scope
from replicator.codecs.payload import check_payload, join
from replicator.codecs.rows import OWN, PAYLOADS, why_beside
from replicator.codecs.validation import validate_vectors
from replicator.connectors.parquet.kind import ParquetOptions
from replicator.connectors.parquet.values import At, values_at
from replicator.connectors.parquet.vectors import At as VectorAt
from replicator.connectors.parquet.vectors import bare_array, is_vector, vectors_at
from replicator.errors import Refused, Rejected
from replicator.model.point import BareId, Payload, Point, PointId, Vector, Vectors, within

_TYPES = pa.types


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a part, by what they mean."""

    id: str
    scope: str | None = None
    vectors: dict[str, str]
    """Column → vector."""
    by_name: str | None = None
    """The column that holds vectors by their names."""
    maps: str | None = None
    """The column whose maps are the payload, or its JSON."""
    fields: dict[str, str] = {}
    """Column → payload field."""


def columns_of(schema: Any, options: ParquetOptions, *, scoped: bool, place: str) -> Columns:
    """
    Read the columns of a part. Raises Refused("config-invalid") naming one that is missing,
    that has a type that it cannot have, or that nobody says the meaning of.
    """

    def refused(why: str) -> Refused:
        return Refused("config-invalid", f"{place}: {why}")

    names = list(schema.names)
    if len(set(names)) < len(names):
        raise refused("two columns have one name")
    for name in (options.id, *options.vectors, *options.payload):
        if name not in names:
            raise refused(f"there is no column {name!r}, but {', '.join(names)}")
    kind = schema.field(options.id).type
    if not _is_id(kind):
        raise refused(f"the column {options.id!r} of {kind} holds no ids")
    vectors = dict(options.vectors)
    by_name = None
    if not vectors:
        vectors = {"vector": ""} if "vector" in names else {}
        by_name = "vectors" if "vectors" in names else None
    for name in vectors:
        if not is_vector(schema.field(name).type):
            raise refused(f"the column {name!r} of {schema.field(name).type} holds no vectors")
    if by_name is not None and not _is_by_name(schema.field(by_name).type):
        raise refused("the column 'vectors' is no struct or map of vectors by name")
    special = {options.id, *vectors}
    special |= ({by_name} if by_name else set()) | ({"scope"} if scoped else set())
    rest = [name for name in names if name not in special]
    maps, fields = _payload(rest, options, refused)
    return Columns(
        id=options.id,
        scope="scope" if scoped else None,
        vectors=vectors,
        by_name=by_name,
        maps=maps,
        fields=fields,
    )


def _payload(
    rest: list[str], options: ParquetOptions, refused: Callable[[str], Refused]
) -> tuple[str | None, dict[str, str]]:
    """The column of maps, and the columns that are fields."""
    given = options.payload
    if len(set(given.values())) < len(given):
        raise refused("options.payload gives one name to two columns")
    maps = [name for name, field in given.items() if not field]
    fields = {name: given[name] for name in rest if given.get(name)}
    unnamed = [name for name in rest if name not in given]
    if not maps:
        maps = [name for name in unnamed if name in PAYLOADS]
        if len(maps) > 1:
            raise refused(
                "there are `payload` and `metadata`: options.payload tells them apart"
            )
    others = [name for name in unnamed if name not in maps]
    if not maps and not given:
        odd = next((name for name in others if name in OWN and name != "document"), None)
        if odd is not None:
            raise refused(f"options say nothing of the column {odd!r}")
        return None, {name: name for name in others}
    for name in others:
        if name != "document":
            raise refused(f"{why_beside(name)}, or say in options.payload what it is")
        fields[name] = name
    return (maps[0] if maps else None), fields


def _is_by_name(kind: Any) -> bool:
    if _TYPES.is_map(kind):
        return bool(_TYPES.is_string(kind.key_type)) and is_vector(kind.item_type)
    return bool(_TYPES.is_struct(kind)) and all(is_vector(field.type) for field in kind)


class Rows:
    """The rows of a batch."""

    def __init__(self, batch: Any, columns: Columns, first: int) -> None:
        """`first`: the number of the batch's first row within its part."""
        self.first = first
        self.count = batch.num_rows
        self.bytes = batch.nbytes
        self._batch = batch
        self._ids = ids_of(batch, columns)
        self._vectors: dict[str, VectorAt] = {
            name: vectors_at(batch.column(column), join("vectors", name))
            for column, name in columns.vectors.items()
        }
        self._by_name: At | None = None
        if columns.by_name is not None:
            self._read_by_name(bare_array(batch.column(columns.by_name)))
        self._maps: At | None = None
        if columns.maps is not None:
            self._maps = _maps_at(batch.column(columns.maps), columns.maps)
        self._fields = {
            name: values_at(batch.column(column), join("payload", name))
            for column, name in columns.fields.items()
        }

    def _read_by_name(self, array: Any) -> None:
        if _TYPES.is_struct(array.type):
            # `flatten` knows of slices and of structs that are null; `field` does not.
            for field, child in zip(array.type, array.flatten(), strict=True):
                at = vectors_at(child, join("vectors", field.name))
                self._vectors.setdefault(field.name, at)
            return
        bounds, keys = array.offsets.to_pylist(), array.keys
        at = vectors_at(array.items, "vectors")
        self._by_name = lambda row: {
            keys[place].as_py(): at(place) for place in range(bounds[row], bounds[row + 1])
        }

    def point(self, row: int) -> Point:
        """The point of a row, by its number within the batch. Raises Rejected."""
        point_id = self._ids(row)
        vectors = self._vectors_of(row)
        payload: Payload = {} if self._maps is None else self._maps(row)
        for name, at in self._fields.items():
            value = at(row)
            if payload.get(name, value) != value:
                raise Rejected("field-invalid", f"`{name}` stands twice, with two values", name)
            payload[name] = value
        check_payload(payload)
        validate_vectors(vectors, None, whole=False)
        return Point(point_id, vectors, payload)

    def _vectors_of(self, row: int) -> Vectors:
        vectors: Vectors = {}
        for name, at in self._vectors.items():
            vector = at(row)
            if vector is not None:
                vectors[name] = vector
        if self._by_name is not None:
            more: dict[str, Vector | None] = self._by_name(row)
            vectors |= {name: each for name, each in more.items() if each is not None}
        return vectors

    def shown(self, row: int, bytes_max: int) -> bytes:
        """A row as a person may read it in a dead letter, its beginning."""
        return str(self._batch.slice(row, 1)).encode()[:bytes_max]


def ids_of(batch: Any, columns: Columns) -> Callable[[int], PointId]:
    """How to read the ids of a batch. What it gives raises Rejected."""
    array = bare_array(batch.column(columns.id))
    binary = _TYPES.is_fixed_size_binary(array.type)
    scopes = None if columns.scope is None else bare_array(batch.column(columns.scope))

    def at(row: int) -> PointId:
        told = array[row].as_py()
        if told is None:
            raise Rejected("field-missing", "id is null", columns.id)
        point_id: BareId = str(UUID(bytes=told)) if binary else told
        scope = None
        if scopes is not None:
            scope = scopes[row].as_py()
            check_scope(scope, True, "the row")
        return canonical_id(within(scope, point_id))

    return at


def each_id(batch: Any, columns: Columns) -> Iterator[PointId | Rejected]:
    """The ids of a batch, or why one cannot be read."""
    read = ids_of(batch, columns)
    for row in range(batch.num_rows):
        try:
            yield read(row)
        except Rejected as error:
            yield error


def _is_id(kind: Any) -> bool:
    """Integers, texts, and UUIDs in 16 bytes."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if _TYPES.is_dictionary(kind):
        kind = kind.value_type
    if _TYPES.is_fixed_size_binary(kind):
        return bool(kind.byte_width == 16)
    return bool(
        _TYPES.is_integer(kind) or _TYPES.is_string(kind) or _TYPES.is_large_string(kind)
    )


def _maps_at(array: Any, path: str) -> At:
    read = values_at(_as_text(bare_array(array)), path)

    def at(row: int) -> Payload:
        value = read(row)
        if type(value) is str:
            try:
                value = msgspec.json.decode(value)
            except msgspec.DecodeError as exc:
                raise Rejected("value-malformed", f"{path} is no JSON: {exc}", path) from exc
        if value is None:
            return {}
        if type(value) is not dict:
            raise Rejected("field-type", f"{path} is not a map", path)
        return value

    return at


def _as_text(array: Any) -> Any:
    """JSON as bytes is read as a text. Other bytes stay, and are rejected row by row."""
    if not (_TYPES.is_binary(array.type) or _TYPES.is_large_binary(array.type)):
        return array
    try:
        return array.cast(pa.large_string())
    except pa.ArrowInvalid:
        return array
