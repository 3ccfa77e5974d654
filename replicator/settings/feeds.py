"""Settings of the feeds, told apart by `kind`."""

from __future__ import annotations

from typing import Literal

import msgspec

from replicator.settings.units import Duration, Secret, Size


class TableSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the rows of a table are read from a change data capture: its column map."""

    collection: str
    """The collection at the source: the table's name."""
    schema: str = ""
    """The table's schema, or database where there are none; Airbyte's namespace. Tables of that
    name in others are left alone; empty: there are no others."""
    key: list[str] = msgspec.field(default_factory=lambda: ["id"])
    """Columns of the id. Several make one text, each percent-encoded, with `/` between."""
    vectors: dict[str, str] = {}
    """Column → vector name (`""` is the unnamed one). A value is an array of numbers, text such
    as `[1,2,3]`, or base64 of little-endian float32."""
    payload: str = ""
    """A JSON column that holds the whole payload; empty: columns are fields of it."""
    fields: list[str] = []
    """Columns that are payload fields; empty: every one that is neither key nor vector."""
    json: list[str] = []
    """Those of them whose text is JSON, as a database's JSON columns come."""


class _FeedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    settle: Duration = Duration(60)
    """At least the source's visibility delay plus the time between a change and its event. No
    source row is read sooner after the capture, and repair waits as long before it trusts the
    source's image."""
    event_bytes_max: Size = Size(8 << 20)
    """Larger records go to the dead letters unread."""
    decoder: Literal["replicator", "debezium", "airbyte"] = "replicator"
    """What the records are: events of the contract, or a database's change data capture by
    Debezium or Airbyte, in JSON."""
    tables: list[TableSettings] = []
    """Of `debezium` and `airbyte`: how the rows of each table are read, one for each of
    [[collections]]."""
    placeholder: str = "__debezium_unavailable_value"
    """Of `debezium` and `airbyte`: what stands for a value that an update did not touch, as
    Debezium's `unavailable.value.placeholder` says."""
    ids: Literal["learn", "integer", "string"] = "learn"
    """Type of the ids in event keys, so that a null value can be read; `learn` asks the source.
    """


class KafkaSettings(_FeedSettings, tag="kafka", tag_field="kind", frozen=True, kw_only=True):
    """A Kafka topic. Names and values of connection options are Kafka's own."""

    bootstrap_servers: str
    """Comma-separated `host:port` list."""
    topic: str
    """The topic of change events. Dead letters go to `<topic>.dead-letters`."""
    group_id: str = ""
    """Consumer group where progress is published; `replicator.<name>` when empty. The state
    store holds the truth."""
    partitioner: Literal["murmur2", "crc32", "unchecked"] = "murmur2"
    """How producers place keys: `murmur2` (Java, aiokafka), `crc32` (librdkafka's default),
    `unchecked`."""
    compacted_without_patches: bool = False
    """Declare that a compacted topic carries no patches; one that comes all the same stops the
    stream."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Kafka's security.protocol."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"] = "PLAIN"
    """Kafka's sasl.mechanism."""
    sasl_plain_username: str = ""
    """User for PLAIN and SCRAM."""
    sasl_plain_password: Secret = Secret("")
    """Password for PLAIN and SCRAM."""
    ssl_cafile: str = ""
    """CA bundle; the system's when empty."""
    ssl_certfile: str = ""
    """Client certificate."""
    ssl_keyfile: str = ""
    """Client key."""
    ssl_keyfile_password: Secret = Secret("")
    """Password of the client key."""
    ssl_check_hostname: bool = True
    """Whether the broker's certificate must name its host."""
    request_timeout: Duration = Duration(15)
    """How long one request to the broker may take."""
    fetch_bytes_max: Size = Size(16 << 20)
    """Prefetch of the client in all. It is part of the memory budget, shared by all partitions.
    """
    stuck_after: Duration = Duration(120)
    """The process ends when the log end is ahead for so long and no record comes. Sooner ends
    it during a broker's ordinary restart; later leaves a dead consumer unseen."""


class ChangelogSettings(
    _FeedSettings, tag="changelog", tag_field="kind", frozen=True, kw_only=True
):
    """A SQLite change log that the application writes."""

    path: str
    """The SQLite file. Its table is a documented contract."""
    poll_interval: Duration = Duration(0.05)
    """How often an idle reader looks for new rows."""


class NoFeedSettings(
    msgspec.Struct,
    tag="none",
    tag_field="kind",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """No feed: a plain copy of a store that nobody writes."""


FeedSettings = KafkaSettings | ChangelogSettings | NoFeedSettings


def feed_kind(feed: FeedSettings) -> str:
    """`kafka`, `changelog` or `none`."""
    return str(feed.__struct_config__.tag)
