"""What stands in the way of a migration from this topic."""

from __future__ import annotations

from replicator.errors import ReplicatorError
from replicator.feeds.kafka.cluster import Cluster
from replicator.model.finding import CheckFinding, Severity
from replicator.settings.feeds import KafkaSettings

_SHORT_S = 24 * 3600.0
"""Retention below this is warned about: copy, replay and a night without an operator have to
fit. The estimate of the copy, which the plan makes, is the stricter judge."""

_UNLIMITED = -1


async def preflight(
    cluster: Cluster, settings: KafkaSettings, group: str
) -> list[CheckFinding]:
    """Every finding about topic, group and settings. An absent cluster is one, and the only."""
    topic = settings.topic
    try:
        leaders = await cluster.leaders(topic)
        leaderless = sorted(number for number, node in leaders.items() if node < 0)
        if leaderless:
            return [
                _blocks(
                    "feed-unavailable", f"partitions {leaderless} of {topic} have no leader"
                )
            ]
        return [
            *_partitioner(settings),
            *_order(settings, len(leaders)),
            *_configuration(settings, await cluster.options(topic)),
            *await _transactions(cluster, topic),
            *await _members(cluster, group),
        ]
    except ReplicatorError as error:
        return [_blocks(error.code, error.message)]


async def retention_s(cluster: Cluster, topic: str) -> float | None:
    """How long the topic keeps a record, in seconds; None when it does not go by time."""
    return _retention_s(await cluster.options(topic))


def _retention_s(options: dict[str, str]) -> float | None:
    if "delete" not in options["cleanup.policy"]:
        return None
    kept_ms = int(options["retention.ms"])
    return None if kept_ms == _UNLIMITED else kept_ms / 1000


def _partitioner(settings: KafkaSettings) -> list[CheckFinding]:
    if settings.partitioner != "unchecked":
        return []
    return [
        _warns(
            "partitioner-unchecked",
            "records of one key in two partitions, which lose their order, would go unseen",
        )
    ]


def _order(settings: KafkaSettings, partitions: int) -> list[CheckFinding]:
    if settings.decoder != "airbyte" or partitions == 1:
        return []
    return [
        _blocks(
            "rows-unordered",
            f"{settings.topic} has {partitions} partitions, and Airbyte gives each record a key"
            " of its own: the records of one row lie in several, in no order",
        )
    ]


def _configuration(settings: KafkaSettings, options: dict[str, str]) -> list[CheckFinding]:
    topic = settings.topic
    found = []
    if "compact" in options["cleanup.policy"]:
        if not settings.compacted_without_patches:
            found.append(
                _blocks(
                    "log-compacted",
                    f"{topic} has cleanup.policy={options['cleanup.policy']}: compaction "
                    "removes the patches before the last record of a key",
                )
            )
        tombstones_s = int(options["delete.retention.ms"]) / 1000
        if tombstones_s < _SHORT_S:
            found.append(
                _warns(
                    "retention-short",
                    f"{topic} drops null values after delete.retention.ms={tombstones_s:.0f} "
                    "s, and a delete that is dropped before it is replayed is lost",
                )
            )
    kept_s = _retention_s(options)
    if kept_s is not None and kept_s < _SHORT_S:
        found.append(
            _warns("retention-short", f"{topic} keeps records for {kept_s:.0f} s only")
        )
    if int(options["retention.bytes"]) != _UNLIMITED and "delete" in options["cleanup.policy"]:
        found.append(
            _warns(
                "retention-short",
                f"{topic} also drops records above retention.bytes="
                f"{options['retention.bytes']} a partition, however young they are",
            )
        )
    largest = int(options["max.message.bytes"])
    if largest > settings.event_bytes_max:
        found.append(
            _warns(
                "message-too-large",
                f"{topic} takes records of {largest} bytes; above feed.event_bytes_max="
                f"{settings.event_bytes_max} they go to the dead letters",
            )
        )
    return found


async def _transactions(cluster: Cluster, topic: str) -> list[CheckFinding]:
    held = [
        partition
        for partition, bounds in (await cluster.bounds(topic)).items()
        if bounds.stable < bounds.end
    ]
    if not held:
        return []
    return [
        _warns("transaction-open", f"records of {', '.join(held)} wait for a transaction's end")
    ]


async def _members(cluster: Cluster, group: str) -> list[CheckFinding]:
    return [
        _blocks("group-foreign", f"{member} is a member of group {group}")
        for member in await cluster.members(group)
    ]


def _blocks(code: str, message: str) -> CheckFinding:
    return CheckFinding(Severity.BLOCKS, code, "feed", message)


def _warns(code: str, message: str) -> CheckFinding:
    return CheckFinding(Severity.WARNS, code, "feed", message)
