"""
Writes in the binary form of `COPY`, as rows of a staging table.

The staging table is temporary and of the transaction's rows only: `COPY` fills it, and single
statements take them from there. It is made once a connection and kept without rows, because to
make a table writes the catalogue, and a stream would fill that with the dead. Its name says its
columns, so that a table that was altered finds another one.

    k        the id
    p        the payload, or what a patch sets of it
    gone     of a patch: what it takes from the payload. NULL in an upsert
    v0, v1…  the vectors, and of a patch s0, s1…: whether it says anything of them
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Sequence

import msgspec

from replicator.connectors.pgvector.rows import write_payload
from replicator.connectors.pgvector.statements import quoted, statement
from replicator.connectors.pgvector.table import Table
from replicator.connectors.pgvector.vectors import write_vectors
from replicator.model.point import BareId, Vectors, bare
from replicator.model.write import Patch, Upsert

SCHEMA = "pg_temp"

_HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TAIL = struct.pack(">h", -1)
_COUNT = struct.Struct(">h")
_SIZE = struct.Struct(">i")
_BIGINT = struct.Struct(">q")
_NULL = _SIZE.pack(-1)
_JSONB = b"\x01"
_TRUE, _FALSE = b"\x01", b"\x00"


def staged(table: Table) -> str:
    """The name of the staging table."""
    kinds = "_".join(each.type for each in table.vectors.values())
    number = uuid.uuid5(
        uuid.NAMESPACE_OID, f"{table.extension.schema} {table.key_type} {kinds}"
    )
    return f"replicator_{number.hex}"


def make(table: Table) -> str:
    """The statement that makes the staging table, if it is not there."""
    columns = [f"k {table.key_type}", "p jsonb", "gone jsonb"]
    for number, each in enumerate(table.vectors.values()):
        columns += [f"v{number} {table.of_extension(each.type)}", f"s{number} boolean"]
    name = f"{SCHEMA}.{quoted(staged(table))}"
    return statement("stage", staged=name, columns=", ".join(columns))


def fill(table: Table, writes: Sequence[Upsert | Patch]) -> bytes:
    """The rows of these writes, which were looked at before."""
    columns = []
    for name, each in table.vectors.items():
        given = [_vectors(write).get(name) for write in writes]
        columns.append(write_vectors(each.type, given, each.size))
    names = list(table.vectors)
    sent = [_HEAD]
    for number, write in enumerate(writes):
        sent.append(_COUNT.pack(3 + 2 * len(names)))
        for value in _values(table, write):
            sent += _field(value)
        for place, name in enumerate(names):
            sent += _field(columns[place][number])
            sent += _field(_TRUE if _says(write, name) else _FALSE)
    sent.append(_TAIL)
    return b"".join(sent)


def _values(table: Table, write: Upsert | Patch) -> Iterator[bytes | None]:
    yield _key(table, bare(write.id))
    match write:
        case Upsert(point=point):
            yield _JSONB + write_payload(_own(table, point.payload))
            yield None
        case Patch():
            nulls = [name for name, value in write.set.items() if value is None]
            changed = {name: value for name, value in write.set.items() if value is not None}
            gone = [*write.unset, *nulls]
            if table.payload is None:
                changed |= dict.fromkeys(name for name in gone if name not in changed)
            yield _JSONB + write_payload(_own(table, changed))
            yield _JSONB + msgspec.json.encode([name for name in gone if "\0" not in name])


def _own(table: Table, payload: dict[str, object]) -> dict[str, object]:
    """What there are columns for: of others, nothing but nulls was let through."""
    if table.payload is not None:
        return payload
    return {name: value for name, value in payload.items() if name in table.fields}


def _vectors(write: Upsert | Patch) -> Vectors:
    return write.point.vectors if isinstance(write, Upsert) else write.vectors


def _says(write: Upsert | Patch, vector: str) -> bool:
    match write:
        case Patch():
            return vector in write.vectors or vector in write.unset_vectors
        case _:
            return True


def _key(table: Table, point_id: BareId) -> bytes:
    if isinstance(point_id, int):
        return _BIGINT.pack(point_id)
    return uuid.UUID(point_id).bytes if table.key_type == "uuid" else point_id.encode()


def _field(value: bytes | None) -> tuple[bytes, ...]:
    return (_NULL,) if value is None else (_SIZE.pack(len(value)), value)
