"""What nests becomes one text where the target cannot nest, and comes back equal every time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.rules import check_payload_rules, fits_shape
from replicator.errors import Rejected
from replicator.model.finding import Severity
from replicator.model.traits import Lists, PayloadRules
from replicator.stream.nesting import Flat, conversions, text_of

FLAT = PayloadRules(nested=False, lists=Lists.NONE)
ALIKE = PayloadRules(nested=False, lists=Lists.ALIKE)
TEXTS = PayloadRules(nested=False, lists=Lists.TEXTS)
OPEN = PayloadRules()

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(-9, 9)
    | st.text("ab\0ä", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner)
    ),
    max_leaves=6,
)
rules = st.builds(PayloadRules, nested=st.booleans(), lists=st.sampled_from(Lists))


@pytest.mark.parametrize(
    ("store", "value", "held"),
    [
        (FLAT, {"b": 1, "a": [None, "ä"]}, '{"a":[null,"ä"],"b":1}'),
        (FLAT, [], "[]"),
        (FLAT, ["a"], '["a"]'),
        (FLAT, "[1]", "[1]"),
        (FLAT, None, None),
        (TEXTS, ["a", "b"], ["a", "b"]),
        (TEXTS, [], []),
        (TEXTS, [1], "[1]"),
        (ALIKE, [1, 2], [1, 2]),
        (ALIKE, [1, 2.5], "[1,2.5]"),
        (ALIKE, [], "[]"),
        (ALIKE, [{"a": 1}], '[{"a":1}]'),
        (PayloadRules(lists=Lists.TEXTS), {"a": {"b": [1]}}, '{"a":{"b":[1]}}'),
        (PayloadRules(lists=Lists.TEXTS), {"a": {"b": ["c"]}}, {"a": {"b": ["c"]}}),
        (OPEN, {"b": [1, {}]}, {"b": [1, {}]}),
    ],
)
def test_what_the_store_cannot_hold_is_a_text(
    store: PayloadRules, value: Any, held: Any
) -> None:
    assert Flat(store).fields({"f": value, "g": 1}) == {"f": held, "g": 1}


def test_a_payload_that_fits_is_the_very_same() -> None:
    payload = {"a": 1, "b": ["x"], "c": None}
    assert Flat(ALIKE).fields(payload) is payload
    assert Flat(OPEN).fields(payload) is payload


@given(value=values)
def test_a_value_has_one_text_however_it_is_spelt(value: Any) -> None:
    text = text_of(value)
    assert json.loads(text) == value
    assert "\0" not in text
    # As a store gives it back that turns keys about, or 5.0 into 5.
    assert text_of(json.loads(text)) == text


def test_a_float_that_is_no_whole_number_or_too_large_to_tell_stays_one() -> None:
    assert text_of([5.0, 0.1, -0.0, 1e300]) == "[5,0.1,0,1e+300]"


@given(payload=st.dictionaries(st.text("ab", min_size=1, max_size=2), values), store=rules)
def test_what_is_left_nests_no_more_than_the_store_can_hold(
    payload: dict[str, Any], store: PayloadRules
) -> None:
    made = Flat(store).fields(payload)
    assert made.keys() == payload.keys()
    check_payload_rules(made, store)
    for name, value in payload.items():
        assert (made[name] is value) is fits_shape(value, store)


def test_what_cannot_be_held_otherwise_is_rejected_as_before() -> None:
    store = PayloadRules(nested=False, lists=Lists.NONE, integer_max=9)
    with pytest.raises(Rejected):
        check_payload_rules(Flat(store).fields({"a": 10}), store)
    check_payload_rules(Flat(store).fields({"a": [10]}), store)


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (OPEN, FLAT, "maps, and lists"),
        (OPEN, PayloadRules(lists=Lists.ALIKE), "lists that it cannot hold"),
        (ALIKE, TEXTS, "lists that it cannot hold"),
        (OPEN, OPEN, None),
        (FLAT, FLAT, None),
        (TEXTS, OPEN, None),
    ],
)
def test_the_check_informs_of_it(
    source: PayloadRules, target: PayloadRules, said: str | None
) -> None:
    found = conversions(source, target, "target/books")
    assert len(found) == (said is not None)
    for finding in found:
        assert (finding.severity, finding.code) == (Severity.INFORMS, "nested-as-json")
        assert said is not None
        assert said in finding.message
