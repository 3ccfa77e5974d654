from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from replicator.errors import Unavailable
from replicator.feeds.kafka import KafkaDeadLetters, KafkaEventLog, KafkaFeed
from replicator.model.letter import RejectedRecord
from replicator.settings.feeds import KafkaSettings
from replicator.settings.units import Duration, Secret
from replicator.testing.feed_conformance import ends, numbered, starts, take, values
from replicator.testing.kafka_broker import KafkaBroker, create_topic
from tests.feeds import sasl_ssl

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the brokers' keys."""
    return sasl_ssl.make_keys(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secured(tls: Path) -> Iterator[KafkaBroker]:
    with KafkaBroker(listeners=sasl_ssl.LISTENERS, options=sasl_ssl.options(tls)) as broker:
        asyncio.run(create_topic(broker.bootstrap_servers, "articles", 2))
        yield broker


@pytest.fixture(autouse=True)
async def hung_up() -> AsyncIterator[None]:
    """
    The loop lives until every connection is closed. aiokafka does not wait for one whose login
    failed, and TLS ends with a round trip: what the loop leaves open is a warning in whichever
    test the garbage collector runs next.
    """
    yield
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    async with asyncio.timeout(5):
        # The one that is left is the loop's own, by which threads wake it.
        while len(loop._selector.get_map()) > 1:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)


def settings(broker: KafkaBroker, tls: Path, **more: object) -> KafkaSettings:
    given = {
        "bootstrap_servers": broker.listener("SECURE"),
        "topic": "articles",
        "security_protocol": "SASL_SSL",
        "sasl_plain_username": "replicator",
        "sasl_plain_password": Secret("hush-hush"),
        "ssl_cafile": str(tls / "ca.pem"),
        "request_timeout": Duration(5),
        **more,
    }
    return KafkaSettings(**given)  # type: ignore[arg-type]


async def test_every_client_logs_in_over_tls(secured: KafkaBroker, tls: Path) -> None:
    feed = KafkaFeed(settings(secured, tls), "articles")
    log = KafkaEventLog(settings(secured, tls), "articles")
    letters = KafkaDeadLetters(settings(secured, tls), "articles")
    await feed.open(await starts(feed))
    await log.append(numbered(5))
    letter = RejectedRecord(key=b"k", value=b"v", code="internal", path="", message="", at=1.0)

    records, positions = await take(feed, 5)
    await feed.publish(positions)
    [ref] = await letters.keep([letter])

    assert values(records) == [value for _, value in numbered(5)]
    assert await letters.load(ref) == letter
    assert await feed.intruders(await ends(feed)) == []
    assert await feed.check() == []
    whole = [record async for page in feed.read(records[0].partition, 0, 5) for record in page]
    assert whole == records
    for part in (feed, log, letters):
        await part.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sasl_plain_password": Secret("a wrong one")},
        {"ssl_cafile": ""},
        {"security_protocol": "SASL_PLAINTEXT"},
    ],
    ids=["password", "authority", "protocol"],
)
async def test_wrong_credentials_are_told_without_showing_them(
    secured: KafkaBroker, tls: Path, wrong: dict[str, object]
) -> None:
    feed = KafkaFeed(settings(secured, tls, request_timeout=Duration(2), **wrong), "articles")

    with pytest.raises(Unavailable) as unavailable:
        await feed.bounds()

    assert secured.listener("SECURE") in unavailable.value.message
    assert "hush" not in unavailable.value.message
    assert "credentials" in unavailable.value.hint
    await feed.close()
