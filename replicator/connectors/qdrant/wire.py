"""
Qdrant's gRPC messages, with vectors as bytes.

In protobuf a packed `repeated float` and a `bytes` field have the same wire form: a length,
then the little-endian float32 values. So the file descriptors that ship with qdrant-client are
copied into a descriptor pool of our own with the vector fields retyped to `bytes`. The messages
made from it speak the same protocol, and a 1536-float vector passes through as one copy of 6 KB
instead of 1536 Python floats. Everything else (ids, sparse indices, payload, names) is
untouched, and the schema stays in step with the installed client.

The descriptors are loaded from qdrant-client's generated modules alone: importing the package
itself costs some twenty times as much, for models and HTTP clients that are not used here.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from replicator.errors import Fatal, Refused
from replicator.extras import DISTRIBUTION

Message = Any
"""A protobuf message. Its class is made at run time, so its fields are not known to mypy."""

VECTOR_FIELDS = frozenset(
    {
        ("DenseVector", "data"),
        ("SparseVector", "values"),
        # Deprecated, but servers before 1.16 answer in this form.
        ("Vector", "data"),
        ("VectorOutput", "data"),
    }
)
"""`repeated float` fields that become `bytes` of little-endian float32."""

_STAND_IN = "_replicator_qdrant_grpc"
_FLOATS = (
    descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT,
    descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
)


class Wire:
    """Message classes and enum values by name (`wire.PointStruct`), and the services'
    methods.
    """

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        try:
            found: Any = message_factory.GetMessageClass(
                self._pool.FindMessageTypeByName(f"qdrant.{name}")
            )
        except KeyError:
            raise AttributeError(f"qdrant-client's schema has no message {name}") from None
        setattr(self, name, found)
        return found

    def enum(self, name: str) -> dict[str, int]:
        """The values of an enum, by their names."""
        values = self._pool.FindEnumTypeByName(f"qdrant.{name}").values
        return {value.name: value.number for value in values}

    def methods(self, service: str) -> dict[str, tuple[Any, Any]]:
        """Method name → classes of its request and its reply."""
        found = self._pool.FindServiceByName(f"qdrant.{service}")
        return {
            method.name: (
                message_factory.GetMessageClass(method.input_type),
                message_factory.GetMessageClass(method.output_type),
            )
            for method in found.methods
        }


@cache
def wire() -> Wire:
    """The messages, built once. Raises Refused when qdrant-client is absent."""
    pool = descriptor_pool.DescriptorPool()
    left = set(VECTOR_FIELDS)
    for file in _files(_generated("qdrant_pb2").DESCRIPTOR, {}).values():
        copy = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(copy)
        for message in copy.message_type if copy.package == "qdrant" else ():
            for field in message.field:
                if (message.name, field.name) not in VECTOR_FIELDS:
                    continue
                _retype(message.name, field)
                left.discard((message.name, field.name))
        pool.AddSerializedFile(copy.SerializeToString())
    if left:
        raise Fatal(
            "store-bug", f"qdrant-client's schema lacks the vector fields {sorted(left)}"
        )
    return Wire(pool)


def _retype(message: str, field: Message) -> None:
    if (field.type, field.label) != _FLOATS:
        raise Fatal(
            "store-bug",
            f"{message}.{field.name} is no list of floats in qdrant-client's schema",
        )
    field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    field.label = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    field.options.ClearField("packed")


def _files(file: Any, seen: dict[str, Any]) -> dict[str, Any]:
    """A file descriptor and all it imports, each after what it needs."""
    for dependency in file.dependencies:
        _files(dependency, seen)
    seen[file.name] = file
    return seen


def _generated(module: str) -> ModuleType:
    """One of qdrant-client's generated modules, without running the package around it."""
    if _STAND_IN not in sys.modules:
        spec = importlib.util.find_spec("qdrant_client")
        if spec is None or spec.origin is None:
            raise Refused(
                "extra-missing",
                f"qdrant-client is not installed: pip install '{DISTRIBUTION}[qdrant]'",
            )
        package = ModuleType(_STAND_IN)
        package.__path__ = [str(Path(spec.origin).parent / "grpc")]
        sys.modules[_STAND_IN] = package
    return importlib.import_module(f"{_STAND_IN}.{module}")
