"""
What the daemon costs, beside the plain loop, on one broker and one store server in one run.

Figures of these machines are only worth something as ratios: the plain loop and the daemon move
the same points from the same broker to the same kind of server, one after the other, twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from qdrant_client import QdrantClient, models

from replicator.codecs.events import encode
from replicator.model.event import ChangeEvent, Key, Op
from replicator.testing.kafka_broker import KafkaBroker

SIZE = 1536
_CONFIG = """
name = "bench"
[source]
kind = "qdrant"
url = "{source}"
late_write_bound = "0s"
[target]
kind = "qdrant"
url = "{target}"
late_write_bound = "0s"
[[collections]]
source = "docs"
target = "docs"
[feed]
kind = "kafka"
bootstrap_servers = "{bootstrap}"
topic = "{topic}"
settle = "0s"
[state]
path = "{directory}/state.db"
[http]
listen = "127.0.0.1:{port}"
"""


def main() -> None:
    """Run what is asked for, and print one JSON document."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--events", type=int, default=6000, help="of the CPU comparison")
    parser.add_argument("--backlog", type=int, default=200_000, help="of the memory test")
    parser.add_argument("--partitions", type=int, default=500, help="of the memory test")
    parser.add_argument(
        "only", nargs="*", help="cpu memory partitions idle start; all when absent"
    )
    options = parser.parse_args()
    wanted = options.only or ["start", "cpu", "idle", "memory", "partitions"]
    results: dict[str, Any] = {}
    with KafkaBroker(heap_mb=1500) as broker, tempfile.TemporaryDirectory() as directory:
        bench = Bench(broker.bootstrap_servers, Path(directory))
        for name in wanted:
            print(f"{name} …", file=sys.stderr, flush=True)
            match name:
                case "cpu":
                    results[name] = bench.cpu(options.events)
                case "memory":
                    results[name] = bench.memory(options.backlog, 4)
                case "partitions":
                    results[name] = bench.memory(options.backlog // 10, options.partitions)
                case "idle":
                    results[name] = bench.idle()
                case "start":
                    results[name] = bench.start()
            print(json.dumps(results.get(name)), file=sys.stderr, flush=True)
    print(json.dumps(results, indent=2))


class Bench:
    """All runs in processes of its own; this one makes events and reads the clocks."""

    def __init__(self, bootstrap: str, directory: Path) -> None:
        self._bootstrap = bootstrap
        self._directory = directory
        self._number = 0

    # -- what is measured ------------------------------------------------------------------

    def cpu(self, count: int) -> dict[str, Any]:
        """Client CPU of one event, Kafka to Qdrant: the plain loop and the daemon, twice."""
        plain_topic, topic = self._topic("plain", 4), self._topic("events", 4)
        asyncio.run(self._produce(plain_topic, count, as_json=True))
        rounds = []
        with self._store() as source, self._store() as target:
            self._collection(source)
            for _ in range(2):
                self._collection(target, "plain")
                plain = json.loads(
                    subprocess.run(
                        [
                            sys.executable,
                            "-m",
                            "tests.benchmarks.plain",
                            self._bootstrap,
                            plain_topic,
                            target,
                            "plain",
                            str(count),
                        ],
                        check=True,
                        capture_output=True,
                        text=True,
                    ).stdout
                )
                ours = self._backlog(source, target, topic, count)
                rounds.append(
                    {
                        "plain_us": 1e6 * plain["cpu_s"] / count,
                        "plain_per_s": count / plain["wall_s"],
                        "daemon_us": 1e6 * ours["cpu_s"] / count,
                        "daemon_per_s": count / ours["wall_s"],
                        "ratio": plain["cpu_s"] / ours["cpu_s"],
                    }
                )
        return {"events": count, "rounds": rounds}

    def memory(self, count: int, partitions: int) -> dict[str, Any]:
        """RSS of the daemon while it works off a backlog."""
        topic = self._topic("backlog", partitions)
        with self._store() as source, self._store() as target:
            self._collection(source)
            ours = self._backlog(source, target, topic, count)
        return {"events": count, "partitions": partitions, **ours}

    def idle(self, seconds: float = 20.0) -> dict[str, Any]:
        """CPU of a daemon that streams nothing."""
        topic = self._topic("idle", 4)
        with self._store() as source, self._store() as target:
            self._collection(source)
            with self._daemon(source, target, topic) as (process, _):
                time.sleep(3)
                before = _cpu(process)
                time.sleep(seconds)
                used = _cpu(process) - before
        return {"percent_of_a_core": 100 * used / seconds}

    def start(self) -> dict[str, Any]:
        """Start to ready, against the import of the drivers alone."""
        topic = self._topic("start", 4)
        imports = "import aiokafka, qdrant_client, aiosqlite, aiohttp, numpy, prometheus_client"
        rounds = []
        with self._store() as source, self._store() as target:
            self._collection(source)
            with self._daemon(source, target, topic):
                pass  # the first start copies; those measured resume
            for _ in range(3):
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", imports], check=True)
                drivers = time.perf_counter() - began
                began = time.perf_counter()
                with self._daemon(source, target, topic, fresh=False):
                    ready = time.perf_counter() - began
                rounds.append(
                    {"drivers_s": drivers, "ready_s": ready, "ratio": ready / drivers}
                )
        return {"rounds": rounds}

    # -- parts -----------------------------------------------------------------------------

    def _backlog(self, source: str, target: str, topic: str, count: int) -> dict[str, Any]:
        """Pause, fill the topic, resume, and measure until nothing is left."""
        self._drop(target, "docs")
        with self._daemon(source, target, topic) as (process, url):
            _post(url, "pause")
            asyncio.run(self._produce(topic, count, as_json=False))
            peak = _Peak(process)
            cpu, wall = _cpu(process), time.perf_counter()
            _post(url, "resume")
            _until(lambda: _applied(url) >= count, process)
            return {
                "cpu_s": _cpu(process) - cpu,
                "wall_s": time.perf_counter() - wall,
                "rss_start_mb": peak.first / 1e6,
                "rss_peak_mb": peak.stop() / 1e6,
            }

    @contextlib.contextmanager
    def _daemon(
        self, source: str, target: str, topic: str, *, fresh: bool = True
    ) -> Iterator[tuple[psutil.Process, str]]:
        """A daemon that streams."""
        if fresh:
            self._number += 1
        directory = self._directory / f"daemon-{self._number}"
        directory.mkdir(exist_ok=True)
        port = 18000 + os.getpid() % 1000
        config = directory / "replicator.toml"
        config.write_text(
            _CONFIG.format(
                source=source,
                target=target,
                bootstrap=self._bootstrap,
                topic=topic,
                directory=directory,
                port=port,
            )
        )
        url = f"http://127.0.0.1:{port}"
        with (directory / "log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "replicator", "run", "-c", str(config)],
                stdout=log,
                stderr=log,
            )
        process = psutil.Process(child.pid)
        try:
            _until(lambda: _phase(url) == "STREAMING" and _ready(url), process)
            yield process, url
        finally:
            child.terminate()
            child.wait(30)

    @contextlib.contextmanager
    def _store(self) -> Iterator[str]:
        """A store server with an address."""
        with tempfile.TemporaryDirectory() as directory:
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "replicator.local_store",
                    directory,
                    "127.0.0.1:0",
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert child.stdout is not None
            try:
                yield f"http://{child.stdout.readline().split()[-1].removeprefix('http://')}"
            finally:
                child.terminate()
                child.wait(30)

    @staticmethod
    def _client(url: str) -> QdrantClient:
        return QdrantClient(
            host="127.0.0.1",
            grpc_port=int(url.rsplit(":", 1)[1]),
            prefer_grpc=True,
            check_compatibility=False,
        )

    def _collection(self, url: str, name: str = "docs") -> None:
        self._drop(url, name)
        client = self._client(url)
        client.create_collection(
            name, models.VectorParams(size=SIZE, distance=models.Distance.DOT)
        )
        client.close()

    def _drop(self, url: str, name: str) -> None:
        client = self._client(url)
        client.delete_collection(name)
        client.close()

    def _topic(self, name: str, partitions: int) -> str:
        self._number += 1
        topic = f"{name}-{self._number}"

        async def create() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
            await admin.start()
            await admin.create_topics([NewTopic(topic, partitions, 1)])
            await admin.close()

        asyncio.run(create())
        return topic

    async def _produce(self, topic: str, count: int, *, as_json: bool) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            # One request takes a batch of every partition, and 100 MB is the limit.
            max_batch_size=64 << 10,
            linger_ms=20,
            max_request_size=8 << 20,
        )
        await producer.start()
        random = np.random.default_rng(1)
        vectors = random.random((256, SIZE), dtype=np.float32)
        for number in range(count):
            vector = vectors[number % 256]
            payload = {"title": f"point {number}", "year": 1990 + number % 30, "ok": True}
            key = f"docs/{number}".encode()
            if as_json:
                event = {
                    "v": 1,
                    "op": "upsert",
                    "collection": "docs",
                    "id": number,
                    "ts": 1,
                    "vectors": {"": vector.tolist()},
                    "payload": payload,
                }
                value: bytes | None = json.dumps(event).encode()
            else:
                key, value = encode(
                    ChangeEvent(
                        op=Op.UPSERT,
                        key=Key("docs", number),
                        ts_ms=1,
                        vectors={"": vector.tobytes()},
                        payload=payload,
                    )
                )
            await producer.send(topic, value, key=key)
        await producer.stop()


class _Peak:
    """Samples the RSS of a process from a thread."""

    def __init__(self, process: psutil.Process) -> None:
        self.first: int = process.memory_info().rss
        self._peak = self.first
        self._process = process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._stop.wait(0.1):
            with contextlib.suppress(psutil.Error):
                self._peak = max(self._peak, self._process.memory_info().rss)

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self._peak


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def _post(url: str, verb: str) -> None:
    request = urllib.request.Request(
        f"{url}/v1/{verb}", b"{}", {"Content-Type": "application/json"}, method="POST"
    )
    urllib.request.urlopen(request, timeout=60).close()


def _phase(url: str) -> str:
    try:
        return str(_get(f"{url}/v1/status")["phase"])
    except OSError:
        return ""


def _ready(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
    except OSError:
        return False
    return True


def _applied(url: str) -> int:
    try:
        return int(_get(f"{url}/v1/status")["stream"]["applied"])
    except OSError:
        return 0


def _until(true: Any, process: psutil.Process) -> None:
    while not true():
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            raise SystemExit(f"the daemon ended by itself: {process}")
        time.sleep(0.1)
