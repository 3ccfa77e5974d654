"""
The preflight: everything that can be known before the first row is copied, as findings.

A finding that blocks would lose data or certainly fail; one that warns is for the operator to
weigh. Nothing is changed, and a peer that is away is a finding, not an exception.
"""

from __future__ import annotations

from collections.abc import Sequence

from replicator.codecs.validation import validate_point
from replicator.errors import Refused, Rejected, ReplicatorError
from replicator.migration.routes import is_one_collection, wanted_target
from replicator.model.event import Key
from replicator.model.finding import CheckFinding, Severity
from replicator.model.point import Point, PointId
from replicator.model.record import MigrationRecord
from replicator.model.schema import CollectionSchema
from replicator.ports.feed import ChangeFeed, Retention
from replicator.ports.store import SelfCheck, Store
from replicator.settings.settings import Settings
from replicator.settings.transform import CollectionSettings
from replicator.stream.compatibility import losses
from replicator.stream.transform import Transform

_SAMPLE_ROWS = 2000
"""Rows of each collection that are looked at: some seconds at most."""
_ROWS_PER_S = 2000.0
"""A cautious rate of copying, for judging the log's retention before anything was measured."""


async def run_checks(
    settings: Settings,
    *,
    source: Store,
    target: Store,
    feed: ChangeFeed | None,
    record: MigrationRecord | None,
    wipe: Sequence[str] = (),
) -> list[CheckFinding]:
    """Every finding, blocking ones first. `record` is that of a migration under way, if any."""
    findings: list[CheckFinding] = []
    parts: list[object] = [source, target, feed]
    for part in parts:
        if isinstance(part, SelfCheck):
            findings += await part.check()
    findings += _settle(settings, source)
    points = 0
    for collection in settings.collections:
        try:
            found, count = await _collection(
                settings, collection, source=source, target=target, record=record, wipe=wipe
            )
        except ReplicatorError as error:
            subject = f"collections/{collection.source}"
            findings.append(CheckFinding(Severity.BLOCKS, error.code, subject, error.message))
        else:
            findings += found
            points += count
    if isinstance(parts[2], Retention):
        findings += await _retention(parts[2], points)
    unique = list(dict.fromkeys(findings))
    order = list(Severity)
    return sorted(unique, key=lambda finding: order.index(finding.severity))


def _settle(settings: Settings, source: Store) -> list[CheckFinding]:
    settle = getattr(settings.feed, "settle", None)
    if settle is None or settle >= source.staleness_s:
        return []
    return [
        CheckFinding(
            Severity.BLOCKS,
            "settle-short",
            "feed.settle",
            f"settle is {settle:.0f} s, and the source shows a write up to "
            f"{source.staleness_s:.0f} s later",
        )
    ]


async def _retention(feed: Retention, points: int) -> list[CheckFinding]:
    try:
        kept_s = await feed.retention_s()
    except ReplicatorError:
        return []  # the feed's own check has said that it is away
    copy_s = points / _ROWS_PER_S
    if kept_s is None or kept_s > 3 * copy_s:
        return []
    return [
        CheckFinding(
            Severity.BLOCKS if kept_s < copy_s else Severity.WARNS,
            "retention-short",
            "feed",
            f"the log keeps records for {kept_s:.0f} s; copying {points} points may take "
            f"{copy_s:.0f} s",
        )
    ]


async def _collection(
    settings: Settings,
    collection: CollectionSettings,
    *,
    source: Store,
    target: Store,
    record: MigrationRecord | None,
    wipe: Sequence[str],
) -> tuple[list[CheckFinding], int]:
    schema = await source.describe(collection.source)
    if schema is None:
        raise Refused("source-missing", f"the source has no collection {collection.source!r}")
    at_target = await target.describe(collection.target)
    if at_target is not None and is_one_collection(settings, schema, at_target):
        raise Refused(
            "target-is-source",
            f"{collection.target!r} is the collection that is read, {collection.source!r}",
        )
    findings = _emptiness(collection, at_target, record=record, wipe=wipe)
    wanted = await wanted_target(collection, schema, target, capture_id=None)
    transform = Transform(collection, at_target or wanted, schema)
    findings += losses(collection, schema, wanted, at_target)
    if at_target is not None:
        findings += transform.compatible(schema, at_target)
    findings += [
        CheckFinding(
            Severity.WARNS, "not-invertible", f"collections/{collection.source}", sentence
        )
        for sentence in transform.lossy
    ]
    findings += await _rows(collection, schema, transform, source)
    return findings, await source.count(collection.source) or 0


def _emptiness(
    collection: CollectionSettings,
    at_target: CollectionSchema | None,
    *,
    record: MigrationRecord | None,
    wipe: Sequence[str],
) -> list[CheckFinding]:
    ours = record.capture.id if record is not None and record.capture is not None else None
    if at_target is None or at_target.points == 0 or collection.target in wipe:
        return []
    if ours is not None and at_target.capture_id in (ours, None):
        return []
    return [
        CheckFinding(
            Severity.BLOCKS,
            "target-not-empty",
            f"target/{collection.target}",
            f"it holds {at_target.points or 'some'} points that this migration did not copy",
        )
    ]


async def _rows(
    collection: CollectionSettings,
    schema: CollectionSchema,
    transform: Transform,
    source: Store,
) -> list[CheckFinding]:
    """Carry a sample of rows without writing: which collide, and which cannot travel?"""
    subject = f"source/{collection.source}"
    targets: dict[PointId, PointId] = {}
    refused: list[Rejected] = []
    collisions = 0
    for point in await _sample(source, collection.source):
        try:
            validate_point(point, schema.vectors)
            key = Key(collection.source, point.id)
            transform.point(key, point)
            if targets.setdefault(transform.target_id(key), point.id) != point.id:
                collisions += 1
        except Rejected as error:
            refused.append(error)
    findings = []
    if collisions:
        message = f"{collisions} of {len(targets)} sampled keys meet another one's target id"
        findings.append(CheckFinding(Severity.BLOCKS, "id-collision", subject, message))
    for code in dict.fromkeys(error.code for error in refused):
        same = [error for error in refused if error.code == code]
        message = (
            f"{len(same)} of the sampled rows will go to the dead letters: {same[0].message}"
        )
        findings.append(CheckFinding(Severity.WARNS, code, subject, message))
    return findings


async def _sample(source: Store, collection: str) -> list[Point]:
    points: list[Point] = []
    chunks = await source.split(collection, 8)
    for chunk in chunks:
        quota = _SAMPLE_ROWS // max(1, len(chunks))
        async for page in source.scan(chunk, None, min(250, quota)):
            points += page.points
            quota -= len(page.points)
            if quota <= 0:
                break
    return points
