"""
Weaviate's gRPC messages, as far as they are used here.

They are declared below, field by field, from the server's own `.proto` files of 1.38, and
become classes in a descriptor pool of their own. The vendor's client brings generated ones, but
with bounds on grpcio and protobuf that exclude the releases that the other connectors run on,
and nothing else of it would be used: it repeats requests by itself, and makes floats of
vectors. Here `vector_bytes` is what it is on the wire.

The fields are declared as proto2's, whose wire form is the same: so each of them says whether
it is there, which those of a `oneof` do in proto3.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Message = Any
"""A protobuf message. Its class is made at run time, so its fields are not known to mypy."""

SERVICE = "weaviate.v1.Weaviate"

_PACKAGE = "weaviate.v1"
_SCALARS = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "double": descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
    "float": descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "uint32": descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
}

SINGLE, MULTI = 1, 2
"""Types of a vector: `VECTOR_TYPE_SINGLE_FP32`, `VECTOR_TYPE_MULTI_FP32`."""

LEVELS = {"one": 1, "quorum": 2, "all": 3}
"""How many replicas must agree: `ConsistencyLevel`."""

HOT, COLD, FROZEN, UNFREEZING, FREEZING = 1, 2, 4, 5, 6
"""What a tenant is doing: `TenantActivityStatus`."""

EQUAL, GREATER, GREATER_EQUAL, LESS, LESS_EQUAL = 1, 3, 4, 5, 6
AND, OR, LIKE, CONTAINS_ANY, NOT = 7, 8, 10, 12, 15
"""`Filters.Operator`."""

NOBODY = "ffffffff-ffff-4fff-bfff-fffffffffff0"
"""An id to ask for where none is meant: without any the server asks for nothing, or all."""

_ENUM = "int32"
"""A varint, as an enum is: numbers that are news pass through."""

_MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    # Number → name and type; `[]` for repeated ones. A map is a list of its entries.
    "Vectors": {1: ("name", "string"), 3: ("vector_bytes", "bytes"), 4: ("type", _ENUM)},
    # what is written
    "BatchObjectsRequest": {1: ("objects", "BatchObject[]"), 2: ("consistency_level", _ENUM)},
    "BatchObjectsReply": {2: ("errors", "BatchError[]")},
    "BatchError": {1: ("index", "int32"), 2: ("error", "string")},
    "BatchObject": {
        1: ("uuid", "string"),
        3: ("properties", "Properties"),
        4: ("collection", "string"),
        5: ("tenant", "string"),
        6: ("vector_bytes", "bytes"),
        23: ("vectors", "Vectors[]"),
    },
    "Properties": {
        1: ("non_ref_properties", "Struct"),
        4: ("number_array_properties", "NumberArray[]"),
        5: ("int_array_properties", "IntArray[]"),
        6: ("text_array_properties", "TextArray[]"),
        7: ("boolean_array_properties", "BooleanArray[]"),
        8: ("object_properties", "ObjectProperty[]"),
        9: ("object_array_properties", "ObjectArray[]"),
        10: ("empty_list_props", "string[]"),
    },
    "Nested": {
        1: ("non_ref_properties", "Struct"),
        2: ("number_array_properties", "NumberArray[]"),
        3: ("int_array_properties", "IntArray[]"),
        4: ("text_array_properties", "TextArray[]"),
        5: ("boolean_array_properties", "BooleanArray[]"),
        6: ("object_properties", "ObjectProperty[]"),
        7: ("object_array_properties", "ObjectArray[]"),
        10: ("empty_list_props", "string[]"),
    },
    "NumberArray": {2: ("prop_name", "string"), 3: ("values_bytes", "bytes")},
    "IntArray": {1: ("values", "int64[]"), 2: ("prop_name", "string")},
    "TextArray": {1: ("values", "string[]"), 2: ("prop_name", "string")},
    "BooleanArray": {1: ("values", "bool[]"), 2: ("prop_name", "string")},
    "ObjectProperty": {1: ("value", "Nested"), 2: ("prop_name", "string")},
    "ObjectArray": {1: ("values", "Nested[]"), 2: ("prop_name", "string")},
    "Struct": {1: ("fields", "StructEntry[]")},
    "StructEntry": {1: ("key", "string"), 2: ("value", "StructValue")},
    "StructValue": {
        2: ("number_value", "double"),
        3: ("string_value", "string"),
        4: ("bool_value", "bool"),
        5: ("struct_value", "Struct"),
    },
    "BatchDeleteRequest": {
        1: ("collection", "string"),
        2: ("filters", "Filters"),
        3: ("verbose", "bool"),
        5: ("consistency_level", _ENUM),
        6: ("tenant", "string"),
    },
    "BatchDeleteReply": {
        2: ("failed", "int64"),
        3: ("matches", "int64"),
        4: ("successful", "int64"),
        5: ("objects", "BatchDeleteObject[]"),
    },
    "BatchDeleteObject": {
        1: ("uuid", "bytes"),
        2: ("successful", "bool"),
        3: ("error", "string"),
    },
    "Filters": {
        1: ("operator", _ENUM),
        3: ("filters", "Filters[]"),
        4: ("value_text", "string"),
        5: ("value_int", "int64"),
        6: ("value_boolean", "bool"),
        7: ("value_number", "double"),
        9: ("value_text_array", "Texts"),
        20: ("target", "FilterTarget"),
    },
    "Texts": {1: ("values", "string[]")},
    "FilterTarget": {1: ("property", "string")},
    # what is read
    "SearchRequest": {
        1: ("collection", "string"),
        10: ("tenant", "string"),
        11: ("consistency_level", _ENUM),
        20: ("properties", "PropertiesRequest"),
        21: ("metadata", "MetadataRequest"),
        30: ("limit", "uint32"),
        33: ("after", "string"),
        40: ("filters", "Filters"),
        43: ("near_vector", "NearVector"),
        102: ("uses_127_api", "bool"),
    },
    "PropertiesRequest": {
        1: ("non_ref_properties", "string[]"),
        3: ("object_properties", "ObjectRequest[]"),
    },
    "ObjectRequest": {
        1: ("prop_name", "string"),
        2: ("primitive_properties", "string[]"),
        3: ("object_properties", "ObjectRequest[]"),
    },
    "MetadataRequest": {
        1: ("uuid", "bool"),
        2: ("vector", "bool"),
        5: ("distance", "bool"),
        10: ("vectors", "string[]"),
    },
    "NearVector": {6: ("targets", "Targets"), 9: ("vectors", "Vectors[]")},
    "Targets": {1: ("target_vectors", "string[]")},
    "SearchReply": {2: ("results", "SearchResult[]")},
    "SearchResult": {1: ("properties", "PropertiesResult"), 2: ("metadata", "MetadataResult")},
    "MetadataResult": {
        1: ("id", "string"),
        7: ("distance", "float"),
        19: ("vector_bytes", "bytes"),
        23: ("vectors", "Vectors[]"),
    },
    "PropertiesResult": {11: ("non_ref_props", "Fields")},
    "Fields": {1: ("fields", "FieldsEntry[]")},
    "FieldsEntry": {1: ("key", "string"), 2: ("value", "Value")},
    "Value": {
        1: ("number_value", "double"),
        3: ("bool_value", "bool"),
        4: ("object_value", "Fields"),
        5: ("list_value", "ListValue"),
        6: ("date_value", "string"),
        7: ("uuid_value", "string"),
        8: ("int_value", "int64"),
        9: ("geo_value", "GeoCoordinate"),
        10: ("blob_value", "string"),
        12: ("null_value", _ENUM),
        13: ("text_value", "string"),
    },
    "ListValue": {
        2: ("number_values", "Packed"),
        3: ("bool_values", "Bools"),
        4: ("object_values", "Objects"),
        5: ("date_values", "Texts"),
        6: ("uuid_values", "Texts"),
        7: ("int_values", "Packed"),
        8: ("text_values", "Texts"),
    },
    "Packed": {1: ("values", "bytes")},
    "Bools": {1: ("values", "bool[]")},
    "Objects": {1: ("values", "Fields[]")},
    "GeoCoordinate": {1: ("longitude", "float"), 2: ("latitude", "float")},
    "TenantsGetRequest": {1: ("collection", "string"), 2: ("names", "Texts")},
    "TenantsGetReply": {2: ("tenants", "Tenant[]")},
    "Tenant": {1: ("name", "string"), 2: ("activity_status", _ENUM)},
    "AggregateRequest": {
        1: ("collection", "string"),
        10: ("tenant", "string"),
        20: ("objects_count", "bool"),
    },
    "AggregateReply": {2: ("single_result", "AggregateSingle")},
    "AggregateSingle": {1: ("objects_count", "int64")},
}

METHODS = {
    "Search": ("SearchRequest", "SearchReply"),
    "BatchObjects": ("BatchObjectsRequest", "BatchObjectsReply"),
    "BatchDelete": ("BatchDeleteRequest", "BatchDeleteReply"),
    "TenantsGet": ("TenantsGetRequest", "TenantsGetReply"),
    "Aggregate": ("AggregateRequest", "AggregateReply"),
}
"""Method → its request and its reply."""


class Wire:
    """Message classes by name: `wire().SearchRequest`."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        try:
            found: Any = message_factory.GetMessageClass(
                self._pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
            )
        except KeyError:
            raise AttributeError(f"there is no message {name} here") from None
        setattr(self, name, found)
        return found


@cache
def wire() -> Wire:
    """The messages, built once."""
    file = descriptor_pb2.FileDescriptorProto(
        name="replicator/weaviate.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in fields.items():
            _declare(message.field.add(name=field, number=number), kind)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return Wire(pool)


def _declare(field: Message, kind: str) -> None:
    repeated = kind.endswith("[]")
    field.label = (
        descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
        if repeated
        else descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    )
    kind = kind.removesuffix("[]")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
        if repeated and kind in ("int64", "bool"):
            field.options.packed = True
    else:
        field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"
