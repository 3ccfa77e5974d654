from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from replicator.feeds.kafka import KafkaFeed
from replicator.model.finding import Severity
from replicator.ports.store import SelfCheck
from replicator.settings.units import Duration, Secret, Size

pytestmark = pytest.mark.kafka

MakeTopic = Callable[..., Awaitable[str]]
MakeFeed = Callable[..., KafkaFeed]


async def found(feed: KafkaFeed) -> list[tuple[Severity, str]]:
    assert isinstance(feed, SelfCheck)
    return [(finding.severity, finding.code) for finding in await feed.check()]


async def test_a_topic_with_the_brokers_defaults_has_no_findings(feed: KafkaFeed) -> None:
    assert await found(feed) == []
    assert await feed.retention_s() == 7 * 86_400


async def test_a_compacted_topic_blocks_unless_it_is_declared_free_of_patches(
    make_topic: MakeTopic, make_feed: MakeFeed
) -> None:
    topic = await make_topic(cleanup_policy="compact", delete_retention_ms="3600000")

    assert await found(make_feed(topic=topic)) == [
        (Severity.BLOCKS, "log-compacted"),
        (Severity.WARNS, "retention-short"),
    ]
    declared = make_feed(topic=topic, compacted_without_patches=True)
    assert await found(declared) == [(Severity.WARNS, "retention-short")]
    assert await declared.retention_s() is None


async def test_records_without_keys_of_their_rows_need_a_topic_of_one_partition(
    make_topic: MakeTopic, make_feed: MakeFeed
) -> None:
    for partitions, expected in ((1, []), (2, [(Severity.BLOCKS, "rows-unordered")])):
        topic = await make_topic(partitions=partitions)
        assert await found(make_feed(topic=topic, decoder="airbyte")) == expected
        assert await found(make_feed(topic=topic, decoder="debezium")) == []


async def test_short_retention_is_warned_about_by_time_and_by_size(
    make_topic: MakeTopic, make_feed: MakeFeed
) -> None:
    feed = make_feed(topic=await make_topic(retention_ms="600000", retention_bytes="1000000"))

    assert await found(feed) == [(Severity.WARNS, "retention-short")] * 2
    assert await feed.retention_s() == 600


async def test_a_log_that_is_kept_for_ever_has_no_retention(
    make_topic: MakeTopic, make_feed: MakeFeed
) -> None:
    feed = make_feed(topic=await make_topic(retention_ms="-1"))

    assert await found(feed) == []
    assert await feed.retention_s() is None


async def test_records_that_the_topic_takes_and_we_do_not_are_warned_about(
    make_feed: MakeFeed,
) -> None:
    assert await found(make_feed(event_bytes_max=Size(1000))) == [
        (Severity.WARNS, "message-too-large")
    ]


async def test_unchecked_producers_are_warned_about(make_feed: MakeFeed) -> None:
    assert await found(make_feed(partitioner="unchecked")) == [
        (Severity.WARNS, "partitioner-unchecked")
    ]


async def test_an_absent_broker_is_a_finding(make_feed: MakeFeed) -> None:
    feed = make_feed(bootstrap_servers="127.0.0.1:1", request_timeout=Duration(0.3))

    [finding] = await feed.check()

    assert (finding.severity, finding.code) == (Severity.BLOCKS, "feed-unavailable")
    assert "127.0.0.1:1" in finding.message


async def test_a_certificate_that_is_not_there_is_a_finding(make_feed: MakeFeed) -> None:
    feed = make_feed(security_protocol="SSL", ssl_cafile="/absent/ca.pem")

    [finding] = await feed.check()

    assert (finding.severity, finding.code) == (Severity.BLOCKS, "config-invalid")


async def test_a_mechanism_whose_package_is_missing_is_a_finding(make_feed: MakeFeed) -> None:
    feed = make_feed(security_protocol="SASL_PLAINTEXT", sasl_mechanism="GSSAPI")

    [finding] = await feed.check()

    assert (finding.severity, finding.code) == (Severity.BLOCKS, "extra-missing")


async def test_no_finding_shows_a_password(make_feed: MakeFeed) -> None:
    feed = make_feed(
        security_protocol="SASL_PLAINTEXT",
        sasl_plain_username="replicator",
        sasl_plain_password=Secret("hush-hush"),
        request_timeout=Duration(0.5),
    )

    [finding] = await feed.check()

    assert finding.severity is Severity.BLOCKS
    assert "hush-hush" not in finding.message
