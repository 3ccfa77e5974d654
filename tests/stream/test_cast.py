from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.stream.cast import CastName, cast

KINDS: list[CastName] = ["int", "float", "str", "bool"]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int", 5, 5),
        ("int", 5.0, 5),
        ("int", "-05", -5),
        ("int", True, 1),
        ("int", 2**63, 2**63),
        ("float", 5, 5.0),
        ("float", 5.5, 5.5),
        ("float", "5", 5.0),
        ("float", "-.5e3", -500.0),
        ("str", 5, "5"),
        ("str", 5.5, "5.5"),
        ("str", "x", "x"),
        ("str", False, "false"),
        ("bool", True, True),
        ("bool", 0, False),
        ("bool", 1.0, True),
        ("bool", "True", True),
        ("bool", "false", False),
    ],
)
def test_a_value_is_said_in_the_wanted_type(kind: CastName, value: Any, expected: Any) -> None:
    result = cast(kind, value)
    assert (type(result), result) == (type(expected), expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", 5.5),
        ("int", 1e400),
        ("int", "5.0"),
        ("int", "five"),
        ("int", ""),
        ("int", " 5"),
        ("int", "1_000"),
        ("int", "\u0665"),
        ("int", {}),
        ("float", 2**53 + 1),
        ("float", 10**400),
        ("float", True),
        ("float", "nan"),
        ("float", "inf"),
        ("float", "1e999"),
        ("float", "1_0.5"),
        ("float", {}),
        ("str", {}),
        ("bool", 2),
        ("bool", "yes"),
        ("bool", "1"),
        ("bool", {}),
    ],
)
def test_what_cannot_be_said_is_refused_without_showing_it(kind: CastName, value: Any) -> None:
    with pytest.raises(ValueError, match=f"cannot be said as {kind}") as refused:
        cast(kind, value)
    assert str(value) not in str(refused.value) or not str(value)


@pytest.mark.parametrize("kind", KINDS)
def test_null_stays_null_and_a_list_is_cast_one_by_one(kind: CastName) -> None:
    assert cast(kind, None) is None
    assert cast(kind, [None, 1]) == [None, cast(kind, 1)]
    with pytest.raises(ValueError, match="cannot"):
        cast(kind, [1, {}])


@given(
    kind=st.sampled_from(KINDS),
    value=st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False) | st.text(),
)
def test_a_cast_twice_is_a_cast_once_and_gives_the_wanted_type(
    kind: CastName, value: Any
) -> None:
    try:
        once = cast(kind, value)
    except ValueError:
        return
    assert type(once).__name__ == kind
    assert cast(kind, once) == once


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_survives_the_way_through_text(value: float) -> None:
    kind: CastName = "int" if isinstance(value, int) else "float"
    if kind == "int" and abs(value) >= 10**20:
        return
    assert cast(kind, cast("str", value)) == value
