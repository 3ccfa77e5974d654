"""A bookmark is the same for the same record, and for no other."""

from __future__ import annotations

import pytest

from replicator.model.position import Partition, Record, bookmark_of


def digest(key: bytes | None, value: bytes | None) -> str:
    return bookmark_of(Record(Partition("t/0"), 4, key, value, 17)).digest


def test_the_same_record_has_the_same_bookmark() -> None:
    one = Record(Partition("t/0"), 4, b"k", b"v", 17)
    again = Record(Partition("t/0"), 4, b"k", b"v", 17, (("traceparent", b"x"),))
    assert bookmark_of(one) == bookmark_of(again)
    assert bookmark_of(one) != bookmark_of(Record(Partition("t/0"), 5, b"k", b"v", 17))
    assert bookmark_of(one) != bookmark_of(Record(Partition("t/0"), 4, b"k", b"v", 18))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((b"k", b""), (b"k", None)),
        ((b"", b"v"), (None, b"v")),
        ((b"ab", b"c"), (b"a", b"bc")),
        ((b"k", b"v"), (b"v", b"k")),
        ((b"a", b"-"), (b"a-", b"")),
        ((None, None), (b"", b"")),
        ((b"k", b"1:v"), (b"k1:", b"v")),
    ],
)
def test_what_differs_in_key_value_or_absence_has_another_digest(
    one: tuple[bytes | None, bytes | None], other: tuple[bytes | None, bytes | None]
) -> None:
    assert digest(*one) != digest(*other)
