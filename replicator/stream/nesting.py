"""
Nested values at a target that cannot nest: each becomes a text under its own key.

A map, or a list that the target cannot hold as it is, becomes its JSON: compact, with sorted
keys, and whole numbers without a fraction, so that one value has one text, whoever spelt it.
Nothing is lost that JSON can say, and inside the text none of the target's rules apply. A value
is taken whole, as a patch replaces it; so a patch stays portable (see `stream.transform`). The
way back needs no inverse, for the old store takes events in source terms.

What is no map and no list and cannot be held is the target's to reject.
"""

from __future__ import annotations

import json
from typing import Any

from replicator.codecs.rules import fits_shape
from replicator.model.finding import CheckFinding, Severity
from replicator.model.point import Payload
from replicator.model.traits import Lists, PayloadRules

_EXACT = 1 << 53
"""Above it neighbouring floats are further apart than whole numbers are."""


class Flat:
    """What the payload of one store can hold of nesting. Pure and immutable."""

    def __init__(self, rules: PayloadRules) -> None:
        self._rules = rules
        self.identity = rules.nested and rules.lists is Lists.ANY
        """Every payload passes as it is."""

    def fields(self, fields: Payload) -> Payload:
        """The fields as the store can hold them; the very same when nothing changes."""
        if self.identity:
            return fields
        texts = {
            name: text_of(value)
            for name, value in fields.items()
            if isinstance(value, dict | list | tuple) and not fits_shape(value, self._rules)
        }
        return {**fields, **texts} if texts else fields


def text_of(value: Any) -> str:
    """The one JSON text of a value."""
    return json.dumps(
        _canonical(value), ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        # Stores do not agree on whether they give 5.0 back as 5.
        return int(value)
    return value


def conversions(source: PayloadRules, target: PayloadRules, subject: str) -> list[CheckFinding]:
    """What a payload of the source becomes at the target, where it can hold more than that."""
    if not target.nested and source.nested:
        what = "maps, and lists that it cannot hold,"
    elif _holds_more(source.lists, target.lists):
        what = "lists that it cannot hold"
    else:
        return []
    message = f"{what} become JSON texts at the target, under their own keys"
    return [CheckFinding(Severity.INFORMS, "nested-as-json", subject, message)]


def _holds_more(source: Lists, target: Lists) -> bool:
    order = (Lists.NONE, Lists.TEXTS, Lists.ALIKE, Lists.ANY)
    return order.index(source) > order.index(target)
