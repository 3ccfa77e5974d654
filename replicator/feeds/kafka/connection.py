"""How to reach the cluster, and what its errors mean in our terms."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import errors as kafka
from aiokafka.helpers import create_ssl_context

from replicator.errors import Blocked, Refused, ReplicatorError, Unavailable
from replicator.model.position import Partition
from replicator.settings.feeds import KafkaSettings

METADATA_MAX_AGE_MS = 30_000
"""How long a client trusts its picture of who leads a partition. Clients refresh it on errors
anyway; this bounds how long a broker that fell silent is asked."""


class Connection:
    """The options that every client of one configuration shares."""

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self.settings = settings
        self.client_id = client_id
        self.timeout_s = float(settings.request_timeout)

    @cached_property
    def options(self) -> dict[str, Any]:
        """
        Arguments of any aiokafka client. Raises Refused for certificates that cannot be read
        and for mechanisms whose package is missing.
        """
        settings = self.settings
        if "SASL" in settings.security_protocol and settings.sasl_mechanism == "GSSAPI":
            _require("gssapi", "feed.sasl_mechanism GSSAPI")
        encrypted = settings.security_protocol.endswith("SSL")
        return {
            "bootstrap_servers": settings.bootstrap_servers,
            "client_id": self.client_id,
            "request_timeout_ms": int(self.timeout_s * 1000),
            "security_protocol": settings.security_protocol,
            "ssl_context": self._ssl_context() if encrypted else None,
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_plain_username or None,
            "sasl_plain_password": settings.sasl_plain_password.reveal() or None,
        }

    def _ssl_context(self) -> ssl.SSLContext:
        settings = self.settings
        try:
            context = create_ssl_context(
                cafile=settings.ssl_cafile or None,
                certfile=settings.ssl_certfile or None,
                keyfile=settings.ssl_keyfile or None,
                password=settings.ssl_keyfile_password.reveal() or None,
            )
        except (OSError, ssl.SSLError) as exc:
            raise Refused("config-invalid", f"feed.ssl_*: {exc}") from exc
        assert isinstance(context, ssl.SSLContext)
        context.check_hostname = settings.ssl_check_hostname
        return context

    @contextmanager
    def translated(self, what: str) -> Iterator[None]:
        """Turn what aiokafka raises into our errors; `what` says what was tried."""
        try:
            yield
        except kafka.KafkaError as exc:
            raise self.translate(exc, what) from exc
        except (TimeoutError, OSError) as exc:
            raise self.unavailable(what, exc) from exc

    def translate(self, error: kafka.KafkaError, what: str) -> ReplicatorError:
        """One error of aiokafka in our terms."""
        if isinstance(error, kafka.OffsetOutOfRangeError):
            return Blocked(
                "log-truncated", f"{what}: the log does not hold the position: {error}"
            )
        if isinstance(error, kafka.UnknownTopicOrPartitionError):
            return Refused("topic-missing", f"{what}: the cluster does not know the topic")
        if isinstance(error, kafka.InvalidTopicError):
            return Refused("topic-missing", f"{what}: this cannot be the name of a topic")
        if isinstance(error, _DENIED):
            return Refused("permission-denied", f"{what}: {error}")
        if isinstance(error, (kafka.IncompatibleBrokerVersion, kafka.UnsupportedVersionError)):
            return Refused("unsupported", f"{what}: the broker is too old: {error}")
        return self.unavailable(what, error)

    def unavailable(self, what: str, cause: BaseException | None) -> Unavailable:
        """The cluster does not answer, or not in a way that helps."""
        reason = f": {cause}" if cause is not None and str(cause) else ""
        return Unavailable(
            "feed-unavailable", f"{what} at {self.settings.bootstrap_servers}{reason}"
        )


_DENIED = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.AuthenticationFailedError,
    kafka.AuthenticationMethodNotSupported,
    kafka.UnsupportedSaslMechanismError,
    kafka.IllegalSaslStateError,
)


async def stop(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """
    Stop a client, whatever the cluster does.

    When a broker is away, aiokafka's fetcher lets the cancellation of its own tasks escape from
    `stop`: the caller would take it for one of its own, and connections stay open. So it is
    stopped in a task apart, and its connections are closed if that was cut short.
    """
    stopping = asyncio.create_task(client.stop(), name="kafka-stop")
    await asyncio.wait([stopping])
    if stopping.cancelled():
        inner = client.client if isinstance(client, AIOKafkaProducer) else client._client
        await inner.close()
    else:
        stopping.result()


def partition_name(topic: str, number: int) -> Partition:
    """The partition as status and metrics show it."""
    return Partition(f"{topic}/{number}")


def partition_number(partition: Partition) -> int:
    """The number in a partition's name. Topics have no slash in theirs."""
    return int(partition.rpartition("/")[2])


def dead_letter_topic(topic: str) -> str:
    """Where the rejected records of a topic are kept."""
    return f"{topic}.dead-letters"


def _require(package: str, what: str) -> None:
    if find_spec(package) is None:
        raise Refused("extra-missing", f"{what} needs the package {package}")
