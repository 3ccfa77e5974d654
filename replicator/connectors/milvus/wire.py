"""
Milvus's gRPC messages, with float vectors as bytes.

In protobuf a packed `repeated float` and a `bytes` field have the same wire form: a length,
then the little-endian float32 values. So the descriptors that ship with pymilvus are copied
into a pool of our own with the field of floats retyped to `bytes`. A whole column of vectors,
which is how Milvus sends them, passes as one copy. Scalar fields of type FLOAT are columns of
the same message, and are bytes here too.

The descriptors are loaded from pymilvus's generated modules alone: importing the package itself
brings pandas, and a second of time, for clients that are not used here.
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

SERVICE = "milvus.proto.milvus.MilvusService"

_FLOATS = ("milvus.proto.schema", "FloatArray", "data")
_PACKAGES = ("milvus.proto.milvus", "milvus.proto.schema", "milvus.proto.common")
_STAND_IN = "_replicator_milvus_grpc"
_REPEATED_FLOAT = (
    descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT,
    descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
)


class Wire:
    """Message classes by name (`wire.QueryRequest`), and the service's methods."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        for package in _PACKAGES:
            try:
                found = self._pool.FindMessageTypeByName(f"{package}.{name}")
            except KeyError:
                continue
            made = message_factory.GetMessageClass(found)
            setattr(self, name, made)
            return made
        raise AttributeError(f"pymilvus's schema has no message {name}")

    def methods(self) -> dict[str, tuple[Any, Any]]:
        """Method name → classes of its request and its reply."""
        found = self._pool.FindServiceByName(SERVICE)
        return {
            method.name: (
                message_factory.GetMessageClass(method.input_type),
                message_factory.GetMessageClass(method.output_type),
            )
            for method in found.methods
        }


@cache
def wire() -> Wire:
    """The messages, built once. Raises Refused when pymilvus is absent."""
    pool = descriptor_pool.DescriptorPool()
    retyped = False
    for file in _files(_generated("milvus_pb2").DESCRIPTOR, {}).values():
        copy = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(copy)
        for message in copy.message_type:
            for field in message.field:
                if (copy.package, message.name, field.name) == _FLOATS:
                    _retype(field)
                    retyped = True
        pool.AddSerializedFile(copy.SerializeToString())
    if not retyped:
        raise Fatal("store-bug", f"pymilvus's schema has no {'.'.join(_FLOATS)}")
    return Wire(pool)


def _retype(field: Message) -> None:
    if (field.type, field.label) != _REPEATED_FLOAT:
        raise Fatal("store-bug", f"{'.'.join(_FLOATS)} is no list of floats in pymilvus")
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
    """One of pymilvus's generated modules, without running the package around it."""
    if _STAND_IN not in sys.modules:
        spec = importlib.util.find_spec("pymilvus")
        if spec is None or spec.origin is None:
            raise Refused(
                "extra-missing",
                f"pymilvus is not installed: pip install '{DISTRIBUTION}[milvus]'",
            )
        package = ModuleType(_STAND_IN)
        package.__path__ = [str(Path(spec.origin).parent / "grpc_gen")]
        sys.modules[_STAND_IN] = package
    return importlib.import_module(f"{_STAND_IN}.{module}")
