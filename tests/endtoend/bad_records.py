"""Records that cannot be carried: how each is made, and what it is refused with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec

from tests.endtoend.daemon import Document
from tests.endtoend.events import Wire, event, key

NAN = float("nan")
GOOD = (1.0, 2.0, 3.0, 4.0)
EVENT_BYTES_MAX = 64 << 10


def good(name: str, n: int, **more: Any) -> Document:
    """The fields of an event that is right."""
    return {"v": 1, "op": "upsert", "collection": name, "id": n, "ts": 1, **more}


def packed(name: str, n: int, **more: Any) -> Wire:
    return key(name, n), msgspec.msgpack.encode(good(name, n, **more))


def as_json(name: str, n: int, **more: Any) -> Wire:
    return key(name, n), json.dumps(good(name, n, **more)).encode()


def whole(name: str, n: int) -> bytes:
    value = event("upsert", name, n, vector=GOOD, payload={"title": "whole"})[1]
    assert value is not None
    return value


BAD: dict[str, tuple[Callable[[str, int], Wire], str, str]] = {
    "malformed": (lambda c, n: (key(c, n), b"\xc1 no value"), "value-malformed", ""),
    "empty": (lambda c, n: (key(c, n), b""), "value-malformed", ""),
    "truncated": (lambda c, n: (key(c, n), whole(c, n)[:-7]), "value-malformed", ""),
    "truncated JSON": (lambda c, n: (key(c, n), b'{"v": 1, "op": "up'), "value-malformed", ""),
    "not a map": (lambda c, n: (key(c, n), b"[1, 2]"), "value-malformed", ""),
    "oversized": (
        lambda c, n: event(
            "upsert", c, n, vector=GOOD, payload={"title": "x" * EVENT_BYTES_MAX}
        ),
        "value-too-large",
        "",
    ),
    "wrong dimension": (
        lambda c, n: event("upsert", c, n, vector=(1.0, 2.0), payload={}),
        "vector-dimension",
        'vectors.""',
    ),
    "wrong dimension in a patch": (
        lambda c, n: event("patch", c, n, vector=(1.0, 2.0)),
        "vector-dimension",
        'vectors.""',
    ),
    "NaN vector": (
        lambda c, n: event("upsert", c, n, vector=(1.0, NAN, 3.0, 4.0), payload={}),
        "vector-not-finite",
        'vectors.""',
    ),
    "infinite vector in JSON": (
        lambda c, n: as_json(c, n, vectors={"": [1.0, 2.0, 3.0, float("inf")]}),
        "vector-not-finite",
        'vectors.""',
    ),
    "NaN payload": (
        lambda c, n: event("upsert", c, n, vector=GOOD, payload={"a": [{"b": NAN}]}),
        "payload-not-finite",
        "payload.a[0].b",
    ),
    "wrong type": (
        lambda c, n: event("upsert", c, n, vector=GOOD, payload=["no", "map"]),
        "field-type",
        "payload",
    ),
    "wrong type of time": (
        lambda c, n: packed(c, n, ts="noon", vectors={}),
        "field-type",
        "ts",
    ),
    "wrong type of id": (
        lambda c, n: packed(c, n, id=str(n), vectors={}),
        "field-type",
        "id",
    ),
    "unknown vector": (
        lambda c, n: packed(c, n, vectors={"other": b"\0" * 16}),
        "vector-unknown",
        "vectors.other",
    ),
    "unknown operation": (lambda c, n: packed(c, n, op="replace"), "field-invalid", "op"),
    "set and unset": (
        lambda c, n: event("patch", c, n, set={"a": 1}, unset=["a"]),
        "field-invalid",
        "unset.a",
    ),
    "no version of the contract": (
        lambda c, n: (key(c, n), msgspec.msgpack.encode({"op": "delete"})),
        "field-missing",
        "v",
    ),
    "another version of the contract": (
        lambda c, n: packed(c, n, v=2),
        "field-invalid",
        "v",
    ),
    "key and value differ": (
        lambda c, n: (key(c, n), whole(c, n + 1)),
        "key-mismatch",
        "id",
    ),
}


"""By kind: the record of a collection and an id that can be read, then code and path."""

UNREADABLE: dict[str, tuple[Callable[[str], Wire], str]] = {
    "no key": (lambda c: (None, whole(c, 1)), "key-missing"),
    "an empty key": (lambda c: (b"", whole(c, 1)), "key-missing"),
    "no slash": (lambda c: (c.encode(), whole(c, 1)), "key-invalid"),
    "another spelling": (lambda c: (f"{c}/%31".encode(), whole(c, 1)), "key-invalid"),
    "beyond 64 bits": (lambda c: (f"{c}/{1 << 64}".encode(), None), "id-invalid"),
    "beyond 64 bits in the value": (
        lambda c: (f"{c}/{1 << 64}".encode(), json.dumps(good(c, 1 << 64)).encode()),
        "id-invalid",
    ),
    "negative": (lambda c: event("upsert", c, -1, vector=GOOD, payload={}), "id-invalid"),
    "negative, deleted": (lambda c: (f"{c}/-1".encode(), None), "id-invalid"),
    "an id too long": (
        lambda c: (f"{c}/{'9' * 600}".encode(), None),
        "id-invalid",
    ),
    "a text too long": (
        lambda c: (f"{c}/{quote('ü' * 300)}".encode(), None),
        "id-invalid",
    ),
    "no id of this store": (
        lambda c: event("upsert", c, "plain text", vector=GOOD, payload={}),
        "id-invalid",
    ),
}
"""By kind: the record of a collection whose key names none that there can be, then the code."""
