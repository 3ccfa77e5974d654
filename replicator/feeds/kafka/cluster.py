"""
Questions to the cluster: who leads, where logs begin and end, what a group has committed.

Every answer is the broker's own, of now. The consumer's caches are no source for any of this:
its high watermark is that of the last fetch, and the end that a reader of committed data is
told is the last stable offset, below which an open transaction hides records. So both ends are
asked for, at both isolation levels.

Questions are repeated through what passes (an election, a coordinator on the move, a broken
connection) until `request_timeout` is over, and then the cluster is unavailable.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar
from uuid import UUID

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.admin import DescribeConfigsRequest, DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from replicator.errors import Refused, Unavailable
from replicator.feeds.kafka.connection import Connection, partition_name
from replicator.feeds.kafka.flexible import TooOld, TopicIdRequest
from replicator.model.position import Bounds, Partition

T = TypeVar("T")

_EARLIEST, _LATEST = -2, -1
_UNCOMMITTED, _COMMITTED = 0, 1
_TOPIC_RESOURCE = 2

_RETRY_S = 0.1
"""Between two tries of one question. Half would only ask a broker that is busy electing twice
as often; twice as much would be felt at every start."""

_MISSING_TRIES = 15
"""A broker that is starting up may not know a topic yet: it is missing when it stays so."""

_LOST = (
    kafka.KafkaConnectionError,
    kafka.NodeNotReadyError,
    kafka.RequestTimedOutError,
    kafka.StaleMetadata,
)

_HAS_MEMBERS = (
    kafka.UnknownMemberIdError,
    kafka.IllegalGenerationError,
    kafka.RebalanceInProgressError,
)


class Cluster:
    """
    One client for questions. Methods may run concurrently. All raise Unavailable when the
    cluster does not answer in time, and Refused("permission-denied").
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client: AIOKafkaClient | None = None
        self._coordinators: dict[str, int] = {}
        self._turn = asyncio.Lock()

    async def leaders(self, topic: str, timeout_s: float | None = None) -> dict[int, int]:
        """
        The node that leads each partition of the topic; -1 for none at the moment. Raises
        Refused("topic-missing"); never creates the topic.
        """

        async def ask(client: AIOKafkaClient) -> dict[int, int]:
            return await _leaders(client, topic)

        what = f"asking for the partitions of {topic}"
        return await self._ask(what, _patient(topic, ask), timeout_s)

    async def topic_id(self, topic: str, timeout_s: float | None = None) -> UUID | None:
        """
        What tells the topic from one that bore its name before; None where the broker has no
        such ids (before Kafka 2.8). Raises Refused("topic-missing").
        """

        async def ask(client: AIOKafkaClient) -> UUID | None:
            try:
                response = await client.send(_any_node(client), TopicIdRequest(topic))
            except TooOld:
                return None
            [(error, _, topic_id, *_)] = response.topics
            _raise_for(error)
            assert isinstance(topic_id, UUID)
            return topic_id if topic_id.int else None

        return await self._ask(
            f"asking which topic {topic} is", _patient(topic, ask), timeout_s
        )

    async def bounds(self, topic: str) -> dict[Partition, Bounds]:
        """Start, high watermark and last stable offset of every partition of the topic."""
        # Found missing here in the patient way, and not below for as long as questions last.
        await self.leaders(topic)

        async def ask(client: AIOKafkaClient) -> dict[Partition, Bounds]:
            leaders = await _leaders(client, topic)
            if min(leaders.values()) < 0:
                raise kafka.LeaderNotAvailableError(topic)
            start, stable, end = await asyncio.gather(
                _offsets(client, topic, leaders, _EARLIEST, _UNCOMMITTED),
                _offsets(client, topic, leaders, _LATEST, _COMMITTED),
                _offsets(client, topic, leaders, _LATEST, _UNCOMMITTED),
            )
            # The three answers are of three moments; an end is never below what was stable.
            return {
                partition_name(topic, number): Bounds(
                    start=start[number],
                    end=max(end[number], stable[number]),
                    stable=stable[number],
                )
                for number in sorted(leaders)
            }

        return await self._ask(f"asking for the bounds of {topic}", ask)

    async def options(self, topic: str) -> dict[str, str]:
        """The topic's configuration in force, defaults included."""

        async def ask(client: AIOKafkaClient) -> dict[str, str]:
            request = DescribeConfigsRequest([(_TOPIC_RESOURCE, topic, None)])
            response = await client.send(_any_node(client), request)
            [described] = response.to_object()["resources"]
            _raise_for(described["error_code"])
            return {
                entry["config_names"]: entry["config_value"] or ""
                for entry in described["config_entries"]
            }

        return await self._ask(f"asking for the configuration of {topic}", ask)

    async def committed(self, group: str, topic: str, numbers: Iterable[int]) -> dict[int, int]:
        """The group's committed offsets; partitions without one are left out."""
        request = OffsetFetchRequest(group, [(topic, sorted(numbers))])

        async def ask(client: AIOKafkaClient) -> dict[int, int]:
            response = await self._ask_coordinator(client, group, request)
            _raise_for(getattr(response, "error_code", 0))
            found: dict[int, int] = {}
            for _, partitions in response.topics:
                for number, offset, _, error in partitions:
                    _raise_for(error)
                    if offset >= 0:
                        found[number] = offset
            return found

        return await self._ask(f"asking what group {group} has committed", ask)

    async def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """
        Commit for a group that has no members. Raises Refused("group-foreign") when it has:
        then the broker takes commits from them only.
        """
        request = OffsetCommitRequest(
            group,
            OffsetCommitRequest.DEFAULT_GENERATION_ID,
            "",
            OffsetCommitRequest.DEFAULT_RETENTION_TIME,
            [(topic, [(number, offset, "") for number, offset in sorted(offsets.items())])],
        )

        async def ask(client: AIOKafkaClient) -> None:
            response = await self._ask_coordinator(client, group, request)
            for _, partitions in response.topics:
                for _, error in partitions:
                    _raise_for(error)

        try:
            await self._ask(f"committing to group {group}", ask)
        except _HAS_MEMBERS as exc:
            raise Refused(
                "group-foreign", f"group {group} has live members of another program"
            ) from exc

    async def members(self, group: str) -> list[str]:
        """One description for each live member of the group."""

        async def ask(client: AIOKafkaClient) -> list[str]:
            response = await self._ask_coordinator(
                client, group, DescribeGroupsRequest([group])
            )
            [described] = response.to_object()["groups"]
            if kafka.for_code(described["error_code"]) is not kafka.GroupIdNotFound:
                _raise_for(described["error_code"])
            return [
                f"client {member['client_id']} at {member['client_host'].lstrip('/')}"
                for member in described["members"]
            ]

        return await self._ask(f"asking for the members of group {group}", ask)

    async def close(self) -> None:
        """Close the client. A later question opens a new one."""
        async with self._turn:
            client, self._client = self._client, None
        if client is not None:
            await client.close()

    # -- asking ---------------------------------------------------------------------------
    async def _ask(
        self,
        what: str,
        question: Callable[[AIOKafkaClient], Awaitable[T]],
        timeout_s: float | None = None,
    ) -> T:
        passing: kafka.KafkaError | None = None
        try:
            async with asyncio.timeout(timeout_s or self._connection.timeout_s):
                while True:
                    client: AIOKafkaClient | None = None
                    try:
                        client = await self._connected()
                        return await question(client)
                    except _HAS_MEMBERS:
                        raise
                    except kafka.KafkaError as exc:
                        error = self._connection.translate(exc, what)
                        if not (exc.retriable or isinstance(error, Unavailable)):
                            raise error from exc
                        passing = exc
                        await self._recover(client, exc)
                    await asyncio.sleep(_RETRY_S)
        except TimeoutError as exc:
            raise self._connection.unavailable(what, passing) from (passing or exc)

    async def _connected(self) -> AIOKafkaClient:
        async with self._turn:
            if self._client is None:
                # Its own periodic refresh asks for every topic of the cluster, and every
                # question here brings the picture up to date anyway.
                client = AIOKafkaClient(
                    **self._connection.options, metadata_max_age_ms=24 * 3_600_000
                )
                try:
                    await client.bootstrap()
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            return self._client

    async def _recover(self, client: AIOKafkaClient | None, error: kafka.KafkaError) -> None:
        self._coordinators.clear()
        # Brokers may come back under other addresses, and a client remembers the ones it saw:
        # a new one begins at the bootstrap servers.
        if client is not None and isinstance(error, _LOST):
            async with self._turn:
                if self._client is client:
                    self._client = None
            await client.close()

    async def _ask_coordinator(self, client: AIOKafkaClient, group: str, request: Any) -> Any:
        if group not in self._coordinators:
            self._coordinators[group] = await client.coordinator_lookup(
                CoordinationType.GROUP, group
            )
        return await client.send(
            self._coordinators[group], request, group=ConnectionGroup.COORDINATION
        )


def _patient(
    topic: str, question: Callable[[AIOKafkaClient], Awaitable[T]]
) -> Callable[[AIOKafkaClient], Awaitable[T]]:
    """The question, which finds the topic missing when it stays so for some tries."""
    tries = 0

    async def ask(client: AIOKafkaClient) -> T:
        nonlocal tries
        tries += 1
        try:
            return await question(client)
        except kafka.UnknownTopicOrPartitionError as exc:
            if tries < _MISSING_TRIES:
                raise
            raise Refused("topic-missing", f"the cluster has no topic {topic}") from exc

    return ask


async def _leaders(client: AIOKafkaClient, topic: str) -> dict[int, int]:
    request = MetadataRequest([topic], allow_auto_topic_creation=False)
    response = await client.send(_any_node(client), request)
    client.cluster.update_metadata(response)
    [described] = response.to_object()["topics"]
    _raise_for(described["error_code"])
    return {each["partition"]: each["leader"] for each in described["partitions"]}


async def _offsets(
    client: AIOKafkaClient, topic: str, leaders: Mapping[int, int], when: int, isolation: int
) -> dict[int, int]:
    by_node: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, node in leaders.items():
        by_node[node].append((number, when))
    responses = await asyncio.gather(
        *(
            client.send(node, OffsetRequest(-1, isolation, [(topic, asked)]))
            for node, asked in by_node.items()
        )
    )
    found: dict[int, int] = {}
    for response in responses:
        for _, partitions in response.topics:
            for number, error, _, offset, *_ in partitions:
                _raise_for(error)
                found[number] = offset
    return found


def _any_node(client: AIOKafkaClient) -> int:
    node = client.get_random_node()
    if node is None:
        raise kafka.NodeNotReadyError("no broker is known yet")
    assert isinstance(node, int)
    return node


def _raise_for(code: int) -> None:
    if code:
        raise kafka.for_code(code)()
