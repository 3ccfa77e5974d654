from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.keys import INTEGER_MAX, INTEGER_MIN, canonical_id
from replicator.codecs.points import point_from_json, point_to_json
from replicator.codecs.vectors import multi, sparse
from replicator.errors import Rejected
from replicator.model.point import Point

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
integers = st.integers(INTEGER_MIN, INTEGER_MAX)
values = st.recursive(
    st.none()
    | st.booleans()
    | integers
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
vectors = st.one_of(
    st.lists(floats32, min_size=1, max_size=8).map(lambda v: struct.pack(f"<{len(v)}f", *v)),
    st.dictionaries(st.integers(0, 2**32 - 1), floats32, max_size=6).map(
        lambda entries: sparse(list(entries), list(entries.values()))
    ),
    st.lists(st.tuples(floats32, floats32), min_size=1, max_size=4).map(multi),
)
points = st.builds(
    Point,
    st.one_of(integers, texts.filter(bool).map(canonical_id)),
    st.dictionaries(texts, vectors, max_size=3),
    st.dictionaries(texts, values, max_size=4),
)


def exact(value: Any) -> Any:
    """Tell 5 from 5.0, True from 1 and 0.0 from -0.0, which compare as equal."""
    if isinstance(value, dict):
        return {name: exact(each) for name, each in value.items()}
    if isinstance(value, list):
        return [exact(each) for each in value]
    return type(value).__name__, repr(value)


def rejected(line: bytes) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        point_from_json(line)
    return caught.value.code, caught.value.path


@given(point=points)
def test_a_point_survives_its_line_exactly(point: Point) -> None:
    line = point_to_json(point)
    back = point_from_json(line)

    assert b"\n" not in line
    assert (type(back.id), back.id) == (type(point.id), point.id)
    assert back.vectors == point.vectors
    assert exact(back.payload) == exact(point.payload)


def test_a_line_of_another_program_may_hold_arrays() -> None:
    line = b'{"id": "a", "vectors": {"": [1, 2.5], "s": {"indices": [3, 1], "values": [1, 2]}}}'

    assert point_from_json(line) == Point(
        "a", {"": struct.pack("<2f", 1, 2.5), "s": sparse([1, 3], [2, 1])}, {}
    )


def test_a_nan_in_a_dense_vector_is_kept_for_validation_to_find() -> None:
    vector = struct.pack("<2f", math.nan, math.inf)

    assert point_from_json(point_to_json(Point(1, {"": vector}, {}))).vectors == {"": vector}


def test_what_json_cannot_hold_is_refused_rather_than_written_as_null() -> None:
    for payload in ({"a": math.nan}, {"a": [math.inf]}, {"a": b"bytes"}, {"a": "\ud800"}):
        with pytest.raises(Rejected):
            point_to_json(Point(1, {}, payload))


@pytest.mark.parametrize(
    ("line", "code", "path"),
    [
        (b"", "value-malformed", ""),
        (b"[1]", "value-malformed", ""),
        (b'{"id": 1', "value-malformed", ""),
        (b"{}", "field-missing", "id"),
        (b'{"id": null}', "field-type", "id"),
        (b'{"id": true}', "field-type", "id"),
        (b'{"id": ""}', "id-invalid", "id"),
        (b'{"id": 1, "vectors": []}', "field-type", "vectors"),
        (b'{"id": 1, "vectors": {"v": "AAAA"}}', "field-invalid", "vectors.v"),
        (b'{"id": 1, "vectors": {"v": [NaN]}}', "value-malformed", ""),
        (b'{"id": 1, "payload": null}', "field-type", "payload"),
        (b'{"id": 1, "payload": {"a": NaN}}', "payload-not-finite", "payload.a"),
        (b'{"id": 1, "payload": {"a": 1e999}}', "payload-not-finite", "payload.a"),
    ],
)
def test_a_line_that_is_no_point_says_why(line: bytes, code: str, path: str) -> None:
    assert rejected(line) == (code, path)


@given(line=st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_a_point_or_is_rejected(line: bytes) -> None:
    try:
        point = point_from_json(line)
    except Rejected:
        return
    assert point_from_json(point_to_json(point)) == point
