"""
The two requests that our driver does not speak: those that know a topic by its id.

A topic that is deleted and made anew has the same name and other records. Since Kafka 2.8 each
has an id of its own, which `Metadata` tells from version 10 on; and since 3.1 a consumer may
`Fetch` by that id, from version 13 on, and a broker then never answers with records of another
topic. aiokafka stops at versions 5 and 11. These are the newer ones, in its own terms: fields
in the order of Kafka's protocol, in the flexible encoding (compact lengths, tagged fields at
the end of every structure).
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

Versions = dict[int, tuple[int, int]]
"""What a broker speaks: the lowest and the highest version of each request."""

_METADATA, _FETCH = 3, 1


class Uuid(AbstractType[UUID]):  # type: ignore[misc]
    """Sixteen bytes."""

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        """As Kafka writes it."""
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        """As Kafka writes it."""
        return UUID(bytes=data.read(16))


class Metadata10(Response):  # type: ignore[misc]
    """Brokers, and topics with their ids."""

    API_KEY = _METADATA
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString()),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("topic_authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class AskMetadata10(RequestStruct):  # type: ignore[misc]
    """Of some topics, by name."""

    API_KEY = _METADATA
    API_VERSION = 10
    RESPONSE_TYPE = Metadata10
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", Uuid), ("name", CompactString()), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


_NO_ID = UUID(int=0)


class TopicIdRequest(Request[AskMetadata10]):  # type: ignore[misc]
    """Ask for one topic and its id; never creates it."""

    API_KEY = _METADATA

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def prepare(self, versions: Versions) -> Any:
        """Raises TooOld when the broker speaks no version with ids."""
        return super().prepare(_at_least(versions, _METADATA, 10))

    def build(self, request_struct_class: type[AskMetadata10]) -> AskMetadata10:
        """The only version there is."""
        return request_struct_class([(_NO_ID, self._topic, {})], False, False, False, {})


class Fetched13(Response):  # type: ignore[misc]
    """Records by topic id."""

    API_KEY = _FETCH
    API_VERSION = 13
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("session_id", Int32),
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("highwater_offset", Int64),
                        ("last_stable_offset", Int64),
                        ("log_start_offset", Int64),
                        (
                            "aborted_transactions",
                            CompactArray(
                                ("producer_id", Int64),
                                ("first_offset", Int64),
                                ("tags", TaggedFields),
                            ),
                        ),
                        ("preferred_read_replica", Int32),
                        ("message_set", CompactBytes),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class Fetch13(RequestStruct):  # type: ignore[misc]
    """Records by topic id, outside of any session."""

    API_KEY = _FETCH
    API_VERSION = 13
    RESPONSE_TYPE = Fetched13
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("max_wait_time", Int32),
        ("min_bytes", Int32),
        ("max_bytes", Int32),
        ("isolation_level", Int8),
        ("session_id", Int32),
        ("session_epoch", Int32),
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("current_leader_epoch", Int32),
                        ("fetch_offset", Int64),
                        ("last_fetched_epoch", Int32),
                        ("log_start_offset", Int64),
                        ("max_bytes", Int32),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        (
            "forgotten_topics_data",
            CompactArray(
                ("topic_id", Uuid), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)
            ),
        ),
        ("rack_id", CompactString()),
        ("tags", TaggedFields),
    )


class FetchByIdRequest(Request[Fetch13]):  # type: ignore[misc]
    """What `plain` asks for, by the ids of its topics."""

    API_KEY = _FETCH

    def __init__(self, plain: FetchRequest, ids: Mapping[str, UUID]) -> None:
        self._plain = plain
        self._ids = ids

    def prepare(self, versions: Versions) -> Any:
        """Raises TooOld when the broker fetches by name only."""
        return super().prepare(_at_least(versions, _FETCH, 13))

    def build(self, request_struct_class: type[Fetch13]) -> Fetch13:
        """The only version there is."""
        plain = self._plain
        topics: list[tuple[UUID, list[tuple[Any, ...]], dict[int, bytes]]] = [
            (
                self._ids[topic],
                [
                    # No epoch and no start: those are what replicas tell.
                    (number, -1, offset, -1, -1, bytes_max, {})
                    for number, offset, bytes_max in partitions
                ],
                {},
            )
            for topic, partitions in plain.topics
        ]
        return request_struct_class(
            -1,
            plain._max_wait_ms,
            plain._min_bytes,
            plain._max_bytes,
            plain._isolation_level,
            0,
            -1,
            topics,
            [],
            plain._rack_id,
            {},
        )


class TooOld(Exception):
    """The broker does not know topics by id."""


def _at_least(versions: Versions, request: int, version: int) -> Versions:
    lowest, highest = versions.get(request, (0, 0))
    if not lowest <= version <= highest:
        raise TooOld(f"request {request} in version {version}")
    return versions
