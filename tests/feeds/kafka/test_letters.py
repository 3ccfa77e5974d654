from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from replicator.errors import Refused, Unavailable
from replicator.feeds.kafka import KafkaDeadLetters, dead_letter_topic
from replicator.model.event import Key
from replicator.model.letter import RejectedRecord
from replicator.model.point import ScopedId
from replicator.model.position import Partition
from replicator.settings.feeds import KafkaSettings
from replicator.settings.units import Duration

pytestmark = pytest.mark.kafka

MakeSettings = Callable[..., KafkaSettings]


@pytest.fixture
async def letters(make_settings: MakeSettings) -> AsyncIterator[KafkaDeadLetters]:
    letters = KafkaDeadLetters(make_settings(), "articles")
    yield letters
    await letters.close()


def rejected(topic: str, **more: object) -> RejectedRecord:
    given = {
        "key": b"articles/1",
        "value": b"\x00\xff not an event",
        "code": "value-malformed",
        "path": "vectors.title",
        "message": "not a map: ü",
        "at": 1_700_000_000.123,
        "partition": Partition(f"{topic}/2"),
        "offset": 17,
        "event_key": Key("articles", 2**64 - 1),
        **more,
    }
    return RejectedRecord(**given)  # type: ignore[arg-type]


async def test_a_dead_letter_comes_back_as_it_was_kept(
    letters: KafkaDeadLetters, topic: str
) -> None:
    kept = [
        rejected(topic),
        rejected(topic, headers=(("a", b"1"), ("a", b"\xff")), event_key=Key("a", "7")),
        rejected(topic, event_key=Key("a", ScopedId("ü/ %", 7))),
        rejected(topic, event_key=Key("a", ScopedId("7", "7"))),
        rejected(topic, key=None, event_key=None),
        rejected(topic, value=None),
        rejected(topic, value=b""),
        rejected(topic, key=None, value=None, event_key=None),
        # A row of the copy has no place in the log; its key says where it came from.
        rejected(topic, key=None, value=None, partition=None, offset=None),
        rejected(topic, headers=(("replicator-error-code", b"internal"), ("x", b"y"))),
    ]

    refs = await letters.keep(kept)

    assert len(set(refs)) == len(kept)
    assert [await letters.load(ref) for ref in refs] == kept


async def test_other_programs_find_bytes_and_reason_in_the_topic(
    letters: KafkaDeadLetters, kafka: str, topic: str
) -> None:
    [ref] = await letters.keep([rejected(topic, headers=(("own", b"1"),))])

    assert ref == f"{dead_letter_topic(topic)}/0/0"
    consumer = AIOKafkaConsumer(
        f"{topic}.dead-letters", bootstrap_servers=kafka, auto_offset_reset="earliest"
    )
    await consumer.start()
    record = await consumer.getone()
    await consumer.stop()
    assert (record.key, record.value) == (b"articles/1", b"\x00\xff not an event")
    assert dict(record.headers) == {
        "own": b"1",
        "replicator-error-code": b"value-malformed",
        "replicator-error": "not a map: ü".encode(),
        "replicator-path": b"vectors.title",
        "replicator-at": b"1700000000123",
        "replicator-topic": topic.encode(),
        "replicator-partition": b"2",
        "replicator-offset": b"17",
        "replicator-collection": b"articles",
        "replicator-id": b"18446744073709551615",
        "replicator-id-type": b"integer",
    }


async def test_the_topic_is_created_to_keep_letters_until_a_person_comes(
    letters: KafkaDeadLetters, admin: AIOKafkaAdminClient, topic: str
) -> None:
    await letters.keep([rejected(topic)])

    name = dead_letter_topic(topic)
    [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    [resource] = answer.to_object()["resources"]
    options = {
        each["config_names"]: each["config_value"] for each in resource["config_entries"]
    }
    assert options["retention.ms"] == "-1"
    assert options["cleanup.policy"] == "delete"


async def test_a_record_of_the_largest_size_fits_with_its_reason(
    letters: KafkaDeadLetters, topic: str
) -> None:
    # The default of max.message.bytes, less what a batch of one record adds.
    large = rejected(topic, value=bytes(1_048_588 - 100), message="x" * 3000)

    [ref] = await letters.keep([large])

    assert await letters.load(ref) == large


async def test_letters_that_do_not_fit_are_not_lost_silently(
    letters: KafkaDeadLetters, topic: str
) -> None:
    with pytest.raises(Unavailable) as unavailable:
        await letters.keep([rejected(topic, value=bytes(4 << 20))])
    assert unavailable.value.code == "dead-letters-unavailable"

    [ref] = await letters.keep([rejected(topic)])
    assert await letters.load(ref) == rejected(topic)


async def test_a_letter_that_is_gone_is_not_found(
    letters: KafkaDeadLetters, admin: AIOKafkaAdminClient, topic: str
) -> None:
    [ref, kept] = await letters.keep([rejected(topic), rejected(topic, offset=18)])
    await admin.delete_records(
        {TopicPartition(dead_letter_topic(topic), 0): RecordsToDelete(before_offset=1)}
    )

    with pytest.raises(Refused) as refused:
        await letters.load(ref)
    assert refused.value.code == "not-found"
    assert (await letters.load(kept)).offset == 18


@pytest.mark.parametrize("place", ["0/9", "1/0", "0/x", "", "0"])
async def test_a_ref_that_names_nothing_is_not_found(
    letters: KafkaDeadLetters, topic: str, place: str
) -> None:
    with pytest.raises(Refused) as refused:
        await letters.load(f"{dead_letter_topic(topic)}/{place}")
    assert refused.value.code == "not-found"


async def test_without_a_broker_the_letters_wait(
    make_settings: MakeSettings, topic: str
) -> None:
    settings = make_settings(bootstrap_servers="127.0.0.1:1", request_timeout=Duration(0.3))
    letters = KafkaDeadLetters(settings, "articles")

    with pytest.raises(Unavailable) as unavailable:
        await letters.keep([rejected(topic)])
    assert unavailable.value.code == "dead-letters-unavailable"
    await letters.close()
