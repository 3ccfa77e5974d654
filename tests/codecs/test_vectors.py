from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.numeric import is_ascending, is_finite, normalised
from replicator.codecs.vectors import (
    dense,
    dense_to_list,
    multi,
    multi_to_lists,
    sparse,
    sparse_to_lists,
    vector_from_wire,
    vector_to_json,
)
from replicator.errors import Rejected
from replicator.model.point import MultiVector, SparseVector

floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
NOT_FINITE = (math.nan, math.inf, -math.inf)


@given(values=st.lists(floats32, min_size=1, max_size=50))
def test_numbers_survive_the_way_into_bytes_and_back(values: list[float]) -> None:
    vector = dense(values)

    assert vector == np.array(values, "<f4").tobytes()
    assert [str(each) for each in dense_to_list(vector)] == [str(each) for each in values]


@given(entries=st.dictionaries(st.integers(0, 2**32 - 1), floats32, max_size=30))
def test_a_sparse_vector_is_the_same_in_any_order_of_its_entries(
    entries: dict[int, float],
) -> None:
    given_order = sparse(list(entries), list(entries.values()))
    indices, values = sparse_to_lists(given_order)

    assert indices == sorted(entries)
    assert dict(zip(indices, values, strict=True)) == entries
    assert sparse(indices, values) == given_order


@given(
    rows=st.integers(1, 5).flatmap(
        lambda width: st.lists(st.lists(floats32, min_size=width, max_size=width), min_size=1)
    )
)
def test_the_rows_of_a_multi_vector_come_back(rows: list[list[float]]) -> None:
    assert multi_to_lists(multi(rows)) == rows


def test_rows_of_different_dimensions_are_no_multi_vector() -> None:
    with pytest.raises(Rejected, match="different dimensions"):
        multi([[1.0], [1.0, 2.0]])


def test_numbers_beyond_float32_are_refused_rather_than_made_infinite() -> None:
    for number in (1e39, -1e39, 10**400):
        with pytest.raises(Rejected) as caught:
            dense([0.0, number])
        assert caught.value.code == "vector-not-finite"


@given(data=st.binary(min_size=4, max_size=40).map(lambda raw: raw[: len(raw) // 4 * 4]))
def test_finite_means_every_component(data: bytes) -> None:
    assert is_finite(data) == all(map(math.isfinite, dense_to_list(data)))


@pytest.mark.parametrize("size", [1, 3, 64, 1536])
def test_one_component_that_is_not_finite_is_found_anywhere(size: int) -> None:
    for place in {0, size // 2, size - 1}:
        for wrong in NOT_FINITE:
            values = [0.5] * size
            values[place] = wrong
            assert not is_finite(struct.pack(f"<{size}f", *values))


def test_large_and_tiny_components_are_finite() -> None:
    for number in (3.4028234663852886e38, -3e38, 1e-45, -0.0):
        assert is_finite(struct.pack("<1536f", *[number] * 1536))
    assert is_finite(b"")


def test_ascending_means_no_index_twice() -> None:
    assert is_ascending(b"")
    assert is_ascending(struct.pack("<3I", 0, 5, 4294967295))
    assert not is_ascending(struct.pack("<2I", 5, 5))
    assert not is_ascending(struct.pack("<3I", 0, 5, 4))


def test_a_normalised_vector_has_length_one_and_the_zero_vector_stays() -> None:
    assert dense_to_list(normalised(dense([3, 4, 0]))) == pytest.approx([0.6, 0.8, 0])
    assert normalised(dense([0, 0])) == dense([0, 0])
    # The squares of these do not fit in float32.
    assert dense_to_list(normalised(dense([3e38, 3e38]))) == pytest.approx([0.5**0.5] * 2)


@given(data=st.binary(min_size=4, max_size=80).map(lambda raw: raw[: len(raw) // 4 * 4]))
def test_every_bit_of_a_dense_vector_survives_json(data: bytes) -> None:
    for vector in (data, MultiVector(1, data)):
        assert vector_from_wire(vector_to_json(vector), "v") == vector


@given(entries=st.dictionaries(st.integers(0, 2**32 - 1), floats32, max_size=30))
def test_every_bit_of_a_sparse_vector_survives_json(entries: dict[int, float]) -> None:
    vector = sparse(list(entries), list(entries.values()))

    assert vector_from_wire(vector_to_json(vector), "v") == vector


def test_json_arrays_cannot_hold_a_sparse_nan_so_it_is_refused() -> None:
    for wrong in NOT_FINITE:
        with pytest.raises(Rejected) as caught:
            vector_to_json(SparseVector(struct.pack("<I", 1), struct.pack("<f", wrong)))
        assert caught.value.code == "vector-not-finite"
