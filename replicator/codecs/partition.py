"""
Which partition a producer's default partitioner gives a key.

The two families of Kafka clients disagree: Java and aiokafka hash with murmur2, librdkafka (C,
Go, .NET, Python's confluent client) with CRC-32. One key written by both lands in two
partitions and loses its order, so each record's partition is compared with the one expected.
"""

from __future__ import annotations

import struct
import zlib

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_WORD = 0xFFFFFFFF


def murmur2_partition(key: bytes, count: int) -> int:
    """The partition, of `count`, where Java's and aiokafka's default partitioner put `key`."""
    assert count > 0, "a topic has at least one partition"
    # The sign bit is masked away rather than the value negated: this is what producers do.
    return (_murmur2(key) & 0x7FFFFFFF) % count


def crc32_partition(key: bytes, count: int) -> int:
    """
    The partition, of `count`, where librdkafka's `consistent_random` puts `key`, which must
    not be empty: it spreads empty keys at random.
    """
    assert count > 0, "a topic has at least one partition"
    assert key, "librdkafka gives an empty key no fixed partition"
    return zlib.crc32(key) % count


def expected_partition(partitioner: str, key: bytes | None, count: int) -> int | None:
    """
    Where `partitioner` (`murmur2`, `crc32`, `unchecked`) puts `key`; None where nothing is
    expected: unchecked producers, and keys that the partitioner spreads at random.
    """
    if key is None:
        return None
    match partitioner:
        case "murmur2":
            return murmur2_partition(key, count)
        case "crc32":
            return crc32_partition(key, count) if key else None
        case "unchecked":
            return None
        case _:
            raise AssertionError(f"no partitioner is called {partitioner!r}")


def _murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bits, little-endian words, with the seed that Kafka's clients share."""
    length = len(data)
    state = _SEED ^ length
    for word in struct.unpack_from(f"<{length >> 2}I", data):
        mixed = (word * _MIX) & _WORD
        mixed = ((mixed ^ (mixed >> 24)) * _MIX) & _WORD
        state = ((state * _MIX) & _WORD) ^ mixed
    if rest := data[length & ~3 :]:
        state = ((state ^ int.from_bytes(rest, "little")) * _MIX) & _WORD
    state = ((state ^ (state >> 13)) * _MIX) & _WORD
    return state ^ (state >> 15)
