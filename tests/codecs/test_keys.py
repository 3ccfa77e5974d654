from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.keys import (
    INTEGER_MAX,
    INTEGER_MIN,
    canonical_id,
    decode_key,
    encode_key,
    spells,
)
from replicator.errors import Rejected
from replicator.model.event import Key
from replicator.model.point import ScopedId

UUID = "550e8400-e29b-41d4-a716-446655440000"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
string_ids = texts.filter(lambda text: 0 < len(text.encode()) <= 512).map(
    lambda text: str(canonical_id(text))
)
integer_ids = st.integers(INTEGER_MIN, INTEGER_MAX)


def code(raw: bytes | None, integer: bool | None = False) -> str:
    with pytest.raises(Rejected) as caught:
        decode_key(raw, integer)
    return caught.value.code


@given(collection=texts, point_id=string_ids)
def test_a_key_with_a_string_id_reads_back(collection: str, point_id: str) -> None:
    key = Key(collection, point_id)

    assert decode_key(encode_key(key), integer_ids=False) == key


def test_the_key_of_a_collection_without_a_name_begins_with_the_slash() -> None:
    for key, raw in (
        (Key("", "a b"), b"/a%20b"),
        (Key("", ScopedId("s", "a")), b"/s/a"),
    ):
        assert encode_key(key) == raw
        scoped = isinstance(key.id, ScopedId)
        assert decode_key(raw, integer_ids=False, scoped=scoped) == key


@given(collection=texts, point_id=integer_ids)
def test_a_key_with_an_integer_id_reads_back(collection: str, point_id: int) -> None:
    key = Key(collection, point_id)

    assert decode_key(encode_key(key), integer_ids=True) == key


@given(collection=texts, point_id=string_ids)
def test_the_spelling_is_percent_encoding_as_other_languages_do_it(
    collection: str, point_id: str
) -> None:
    expected = f"{quote(collection, safe='')}/{quote(point_id, safe='')}".encode()

    assert encode_key(Key(collection, point_id)) == expected


@given(collection=texts, point_id=string_ids | integer_ids)
def test_the_quick_comparison_never_disagrees_with_the_decoder(
    collection: str, point_id: int | str
) -> None:
    raw = encode_key(Key(collection, point_id))
    raw_id = raw.partition(b"/")[2]

    if spells(raw_id, point_id):
        assert decode_key(raw, isinstance(point_id, int)).id == point_id
    assert not spells(raw_id + b"0", point_id)


@given(raw=st.binary(max_size=60), integer=st.sampled_from([True, False, None]))
def test_any_bytes_are_a_canonical_key_or_are_rejected(
    raw: bytes, integer: bool | None
) -> None:
    try:
        key = decode_key(raw, integer)
    except Rejected:
        return
    assert encode_key(key).lower() == raw.lower()


def test_unreserved_characters_stay_and_all_others_are_escaped() -> None:
    assert encode_key(Key("a.b_c~d-e", "x/y z+ü")) == b"a.b_c~d-e/x%2Fy%20z%2B%C3%BC"


def test_the_empty_collection_is_the_default_namespace() -> None:
    assert encode_key(Key("", 7)) == b"/7"
    assert decode_key(b"/7", integer_ids=True) == Key("", 7)


def test_digits_are_an_integer_only_where_the_collection_has_integers() -> None:
    assert decode_key(b"c/42", integer_ids=True).id == 42
    assert decode_key(b"c/42", integer_ids=False).id == "42"
    assert decode_key(b"c/007", integer_ids=False).id == "007"


def test_where_the_type_of_ids_is_unknown_canonical_digits_read_as_an_integer() -> None:
    assert decode_key(b"c/42", None).id == 42
    assert decode_key(b"c/007", None).id == "007"
    assert decode_key(b"c/x", None).id == "x"


@pytest.mark.parametrize("raw", [b"c/007", b"c/+1", b"c/-0", b"c/1.0", b"c/1e3", b"c/x", b"c/"])
def test_only_canonical_decimals_are_integer_ids(raw: bytes) -> None:
    assert code(raw, integer=True) == "key-invalid"


@pytest.mark.parametrize("number", [INTEGER_MAX + 1, INTEGER_MIN - 1, 10**300])
def test_integers_beyond_64_bits_are_no_ids(number: int) -> None:
    with pytest.raises(Rejected) as caught:
        encode_key(Key("c", number))
    assert caught.value.code == "id-invalid"
    assert code(b"c/%d" % number, integer=True) in ("id-invalid", "key-invalid")


def test_an_upper_case_uuid_is_the_same_key_as_in_lower_case() -> None:
    assert encode_key(Key("c", UUID.upper())) == f"c/{UUID}".encode()
    assert decode_key(f"c/{UUID.upper()}".encode(), integer_ids=False) == Key("c", UUID)


def test_other_ids_keep_their_case() -> None:
    for point_id in ("ABC", UUID.replace("-", "").upper(), UUID[:-1].upper() + "G"):
        assert decode_key(f"c/{point_id}".encode(), integer_ids=False).id == point_id


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, "key-missing"),
        (b"", "key-missing"),
        (b"no-slash", "key-invalid"),
        (b"c/", "key-invalid"),
        (b"c/a/b", "scope-unexpected"),
        (b"c/a/b/d", "key-invalid"),
        (b"c/a b", "key-invalid"),
        (b"c/%61", "key-invalid"),
        (b"c/%c3%bc", "key-invalid"),
        (b"c/%FF", "key-invalid"),
        (b"c/100%", "key-invalid"),
        (b"\xff/1", "key-invalid"),
        (b"c/" + b"x" * 513, "id-invalid"),
        (b"c/" + b"%C3%BC" * 257, "id-invalid"),
    ],
)
def test_a_key_has_exactly_one_spelling(raw: bytes | None, expected: str) -> None:
    assert code(raw) == expected


def test_a_wrong_spelling_is_answered_with_the_right_one() -> None:
    with pytest.raises(Rejected, match=r"c/a%3Ab"):
        decode_key(b"c/a:b", integer_ids=False)


def test_an_id_of_512_bytes_is_carried() -> None:
    for point_id in ("x" * 512, "ü" * 256):
        key = Key("c", point_id)
        assert decode_key(encode_key(key), integer_ids=False) == key


def test_an_id_that_is_no_text_is_refused() -> None:
    for point_id in ("", "\ud800", True):
        with pytest.raises(Rejected) as caught:
            encode_key(Key("c", point_id))
        assert caught.value.code == "id-invalid"


def test_an_integer_and_its_digits_are_two_keys() -> None:
    assert Key("c", 1) != Key("c", "1")
    assert len({Key("c", 1), Key("c", "1"), Key("c", 1)}) == 2
