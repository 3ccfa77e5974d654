from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.partition import (
    crc32_partition,
    expected_partition,
    murmur2_partition,
)

_place = DefaultPartitioner()


@given(key=st.binary(max_size=70), count=st.integers(1, 500))
def test_murmur2_agrees_with_aiokafkas_own_partitioner(key: bytes, count: int) -> None:
    partitions = list(range(count))

    assert murmur2_partition(key, count) == _place(key, partitions, partitions)


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        # From the tests of Kafka's Java client.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_agrees_with_the_vectors_of_the_java_client(key: bytes, hashed: int) -> None:
    assert murmur2_partition(key, 1 << 31) == hashed & 0x7FFFFFFF


def test_crc32_agrees_with_the_check_value_of_the_polynomial() -> None:
    assert crc32_partition(b"123456789", 1 << 32) == 0xCBF43926
    assert crc32_partition(b"123456789", 12) == 0xCBF43926 % 12


def test_the_two_families_of_clients_part_company_on_most_keys() -> None:
    keys = [f"articles/{number}".encode() for number in range(600)]

    apart = [key for key in keys if murmur2_partition(key, 6) != crc32_partition(key, 6)]

    assert len(apart) > 400


@pytest.mark.parametrize("partitioner", ["murmur2", "crc32", "unchecked"])
def test_nothing_is_expected_of_a_record_without_a_key(partitioner: str) -> None:
    assert expected_partition(partitioner, None, 4) is None


def test_librdkafka_spreads_empty_keys_and_java_does_not() -> None:
    assert expected_partition("crc32", b"", 4) is None
    assert expected_partition("murmur2", b"", 4) == murmur2_partition(b"", 4)


def test_unchecked_producers_may_put_a_key_anywhere() -> None:
    assert expected_partition("unchecked", b"articles/1", 4) is None
