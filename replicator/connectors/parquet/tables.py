"""
Points as tables, and tables as parts.

A table has columns of one type each, and a collection need not: ids may be integers here and
texts there, and where nobody declared the vectors, of other dimensions. So points that are not
of one shape lie in parts of their own, and a part can be read by any program.

`id`; `scope`, where there are scopes; `vector`, or `vectors`, a struct of those with a name;
`payload`, its JSON. A vector is a list of a fixed size, which other programs read as a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from replicator.model.point import (
    MultiVector,
    Point,
    SparseVector,
    Vector,
    bare,
    scope_of,
)
from replicator.model.schema import VectorKind, VectorSchema

ROW_GROUP_BYTES = 8 << 20
"""Of the rows that are read at once to find some of them by their ids. Twice as much reads more
for nothing; half of it costs metadata and compresses worse."""

_INT64_MAX = (1 << 63) - 1
_KINDS = {
    bytes: VectorKind.DENSE,
    SparseVector: VectorKind.SPARSE,
    MultiVector: VectorKind.MULTI,
}
_json = msgspec.json.Encoder().encode

Form = tuple[str, VectorKind, int | None]
"""Of a vector: its name, kind and dimension."""


def tables_of(
    points: Sequence[Point], declared: dict[str, VectorSchema] | None, *, scoped: bool
) -> Iterator[Any]:
    """A table for the points of each shape."""
    shapes: dict[tuple[Any, tuple[Form, ...]], list[Point]] = {}
    for point in points:
        shape = (_id_type(bare(point.id)), _forms(point, declared))
        shapes.setdefault(shape, []).append(point)
    for (id_type, forms), alike in shapes.items():
        yield _table(alike, id_type, forms, scoped)


def write_part(sink: Any, tables: Iterable[Any], compression: str) -> None:
    """Write tables of one schema, one at least, as the row groups of a part."""
    rest = iter(tables)
    first = next(rest)
    with pq.ParquetWriter(
        sink,
        first.schema,
        compression=compression,
        # A dictionary of numbers that never repeat makes files larger and reading slower.
        use_dictionary=False,
        column_encoding=dict.fromkeys(_float_leaves(first.schema), "BYTE_STREAM_SPLIT"),
    ) as writer:
        for table in chain([first], rest):
            writer.write_table(table, row_group_size=max(table.num_rows, 1))


def row_groups(tables: Iterable[Any]) -> Iterator[Any]:
    """The same rows, in tables of about the size of a row group."""
    waiting: list[Any] = []
    size = 0
    for table in tables:
        waiting.append(table)
        size += table.nbytes
        if size >= ROW_GROUP_BYTES:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting, size = [], 0
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _id_type(point_id: int | str) -> Any:
    if isinstance(point_id, str):
        return pa.string()
    return pa.int64() if point_id <= _INT64_MAX else pa.uint64()


def _forms(point: Point, declared: dict[str, VectorSchema] | None) -> tuple[Form, ...]:
    """What the vectors of a point are, those that it lacks included."""
    forms = {name: _form(name, vector) for name, vector in point.vectors.items()}
    for name, schema in (declared or {}).items():
        if name not in forms or schema.size is not None:
            forms[name] = (name, schema.kind, schema.size)
    return tuple(sorted(forms.values(), key=lambda form: form[0]))


def _form(name: str, vector: Vector) -> Form:
    size = None
    if isinstance(vector, bytes):
        size = len(vector) // 4
    elif isinstance(vector, MultiVector):
        size = len(vector.data) // (4 * vector.rows)
    return name, _KINDS[type(vector)], size


def _table(points: Sequence[Point], id_type: Any, forms: tuple[Form, ...], scoped: bool) -> Any:
    columns = {"id": pa.array([bare(point.id) for point in points], id_type)}
    if scoped:
        columns["scope"] = pa.array([scope_of(point.id) for point in points], pa.string())
    named = {}
    for form in forms:
        column = _column([point.vectors.get(form[0]) for point in points], form)
        if form[0]:
            named[form[0]] = column
        else:
            columns["vector"] = column
    if named:
        columns["vectors"] = pa.StructArray.from_arrays(list(named.values()), list(named))
    texts = [_json(point.payload).decode() for point in points]
    columns["payload"] = pa.array(texts, pa.string())
    return pa.table(columns, metadata={"replicator": "1"})


def _column(vectors: Sequence[Vector | None], form: Form) -> Any:
    _, kind, size = form
    absent = pa.array([vector is None for vector in vectors], pa.bool_())
    match kind:
        case VectorKind.DENSE:
            none = bytes(4 * (size or 1))
            rows = [vector if isinstance(vector, bytes) else none for vector in vectors]
            return _rows(b"".join(rows), size or 1, absent)
        case VectorKind.MULTI:
            multi = [each if isinstance(each, MultiVector) else None for each in vectors]
            data = b"".join([each.data for each in multi if each is not None])
            counts = [0 if each is None else each.rows for each in multi]
            inner = _rows(data, size or 1, None)
            return pa.ListArray.from_arrays(_offsets(counts), inner, mask=absent)
        case VectorKind.SPARSE:
            sparse = [each if isinstance(each, SparseVector) else _NOTHING for each in vectors]
            offsets = _offsets([len(each.values) // 4 for each in sparse])
            children = [
                pa.ListArray.from_arrays(offsets, _numbers(data, numbers))
                for data, numbers in (
                    (b"".join([each.indices for each in sparse]), "<u4"),
                    (b"".join([each.values for each in sparse]), "<f4"),
                )
            ]
            return pa.StructArray.from_arrays(children, ["indices", "values"], mask=absent)


_NOTHING = SparseVector(b"", b"")


def _rows(data: bytes, size: int, absent: Any) -> Any:
    """Rows of a fixed size."""
    return pa.FixedSizeListArray.from_arrays(_numbers(data, "<f4"), size, mask=absent)


def _numbers(data: bytes, numbers: str) -> Any:
    return pa.array(np.frombuffer(data, numbers))


def _offsets(counts: Iterable[int]) -> Any:
    return pa.array([0, *accumulate(counts)], pa.int32())


def _float_leaves(schema: Any) -> list[str]:
    """The paths of float columns, as Parquet names them."""
    leaves: list[str] = []
    waiting = [(field.name, field.type) for field in schema]
    while waiting:
        path, kind = waiting.pop()
        if pa.types.is_struct(kind):
            waiting += [(f"{path}.{field.name}", field.type) for field in kind]
        elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            waiting.append((f"{path}.list.element", kind.value_type))
        elif pa.types.is_float32(kind):
            leaves.append(path)
    return leaves
