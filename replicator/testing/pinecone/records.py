"""What a record may be, and the refusal of what it may not."""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec

from replicator.testing.pinecone.limits import Limits

Metadata = dict[str, Any]


class Refusal(Exception):
    """What the service answers instead. `code` is gRPC's, for it stands behind the HTTP."""

    def __init__(
        self, status: int, code: int, message: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


def bad(message: str) -> Refusal:
    """400, INVALID_ARGUMENT."""
    return Refusal(400, 3, message)


class Sparse(msgspec.Struct, frozen=True):
    """Indices ascend, as they come back."""

    indices: list[int]
    values: list[float]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One record as it is stored."""

    id: str
    values: list[float] = []
    sparse: Sparse | None = None
    metadata: Metadata | None = None

    def shown(self, *, values: bool = True, metadata: bool = True) -> dict[str, Any]:
        """As it is answered. A part that it does not have is not there."""
        found: dict[str, Any] = {"id": self.id}
        if values:
            found["values"] = self.values
            if self.sparse is not None:
                found["sparseValues"] = msgspec.to_builtins(self.sparse)
        if metadata and self.metadata is not None:
            found["metadata"] = self.metadata
        return found


def checked_id(given: object, limits: Limits) -> str:
    """ASCII without NUL, 1 to 512 long."""
    if not isinstance(given, str) or not given:
        raise bad("Vector ID must not be empty")
    if not given.isascii():
        raise bad(f"Vector ID must be ASCII, but got '{given}'")
    if "\0" in given:
        raise bad("Vector ID must not contain a null character")
    if len(given) > limits.id_length:
        raise bad(f"Vector ID exceeds {limits.id_length} characters: {len(given)}")
    return given


def checked_namespace(given: object, limits: Limits) -> str:
    """ASCII, at most 512 long; empty is the default one, which is listed as `__default__`."""
    if given is None or given == "__default__":
        return ""
    if not isinstance(given, str) or not given.isascii():
        raise bad("Namespace must be ASCII")
    if len(given) > limits.namespace_length:
        raise bad(f"Namespace exceeds {limits.namespace_length} characters: {len(given)}")
    return given


def checked_record(given: object, dimension: int | None, limits: Limits) -> Record:
    """A record of an upsert; `dimension` None is an index of sparse vectors."""
    if not isinstance(given, dict):
        raise bad("Vector must be an object")
    vector_id = checked_id(given.get("id"), limits)
    values = given.get("values") or []
    sparse = given.get("sparseValues")
    if dimension is None:
        if values:
            raise bad("Index is sparse, and the vector has dense values")
        if sparse is None:
            raise bad(f"Sparse vector must have values: '{vector_id}'")
    elif not values:
        raise bad(f"Dense values are missing: '{vector_id}'")
    return Record(
        id=vector_id,
        values=checked_values(values, dimension) if dimension is not None else [],
        sparse=None if sparse is None else checked_sparse(sparse, limits),
        metadata=checked_metadata(given.get("metadata"), limits),
    )


def checked_values(given: object, dimension: int) -> list[float]:
    """Finite float32s, one of them not zero."""
    if not isinstance(given, list) or len(given) != dimension:
        has = len(given) if isinstance(given, list) else 0
        raise bad(
            f"Vector dimension {has} does not match the dimension of the index {dimension}"
        )
    values = [_float32(each) for each in given]
    if not any(values):
        raise bad("Dense vectors must contain at least one non-zero value.")
    return values


def checked_sparse(given: object, limits: Limits) -> Sparse:
    """Indices of 32 bits, each once; zero values are dropped (assumed), too many refused."""
    if not isinstance(given, dict):
        raise bad("Sparse values must be an object")
    indices, values = given.get("indices"), given.get("values")
    if not isinstance(indices, list) or not isinstance(values, list):
        raise bad("Sparse vector must have indices and values")
    if len(indices) != len(values):
        raise bad("Sparse vector must have as many indices as values")
    if not indices:
        raise bad("Sparse vector must contain at least one value")
    if len(indices) > limits.sparse_values:
        raise bad(f"Sparse vector exceeds {limits.sparse_values} values: {len(indices)}")
    if not all(type(each) is int and 0 <= each < 1 << 32 for each in indices):
        raise bad("Sparse indices must be unsigned 32-bit integers")
    if len(set(indices)) < len(indices):
        raise bad("Sparse indices must be unique")
    pairs = sorted(zip(indices, map(_float32, values), strict=True))
    kept = [(index, value) for index, value in pairs if value]
    return Sparse([index for index, _ in kept], [value for _, value in kept])


def checked_metadata(given: object, limits: Limits) -> Metadata | None:
    """Texts, numbers, truth values, lists of texts: no null, nothing nested. Numbers are floats
    from here on.
    """
    if given is None:
        return None
    if not isinstance(given, dict):
        raise bad("Metadata must be an object")
    size = len(msgspec.json.encode(given))
    if size > limits.metadata_bytes:
        raise bad(
            f"Metadata size is {size} bytes, "
            f"which exceeds the limit of {limits.metadata_bytes} bytes per vector"
        )
    return {key: _metadata_value(key, value) for key, value in given.items()}


def _metadata_value(key: str, value: object) -> Any:
    # An empty key is one, by the client's own words on a vector's metadata (10.2).
    if key.startswith("$"):
        raise bad(f"Metadata key '{key}' is not allowed")
    match value:
        case bool() | str():
            return value
        case int() | float():
            return float(value)
        case list() if all(isinstance(each, str) for each in value):
            return value
    raise bad(
        "Metadata value must be a string, number, boolean or list of strings, "
        f"got '{msgspec.json.encode(value).decode()}' for field '{key}'"
    )


def _float32(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise bad("Vector values must be numbers")
    try:
        [value] = struct.unpack("<f", struct.pack("<f", given))
    except OverflowError:
        raise bad("Vector values must be finite") from None
    if not math.isfinite(value):
        raise bad("Vector values must be finite")
    return float(value)
