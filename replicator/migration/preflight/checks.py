"""
The preflight: everything that can be known before the first row is copied, as findings.

A finding that blocks would lose data or certainly fail; one that warns is for the operator to
weigh. Nothing is changed, and a peer that is away is a finding, not an exception. `check`
prints what is found here, and `run`, `export` and `import` are refused by it before they wipe,
make or write anything: one judgement.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

import msgspec

from replicator.errors import AWAY, Refused, ReplicatorError, Retryable, Unavailable
from replicator.migration.evidence.standing import Standing, standing_findings
from replicator.migration.preflight.embedding import look_at_models
from replicator.migration.preflight.routes import is_one_collection, scopes_of, wanted_target
from replicator.migration.preflight.sampling import sample_rows
from replicator.migration.preflight.shared import Targets
from replicator.model.finding import CheckFinding, Severity
from replicator.model.phase import Phase
from replicator.model.schema import CollectionSchema
from replicator.ports.feed import ChangeFeed, Retention
from replicator.ports.store import Foresight, SelfCheck, StoreWriter, WriteCheck
from replicator.settings.feeds import NoFeedSettings
from replicator.settings.settings import Settings
from replicator.settings.transform import CollectionSettings
from replicator.stream.compatibility import unheld
from replicator.stream.embedding import Models
from replicator.stream.filter_limits import differences
from replicator.stream.nesting import conversions
from replicator.stream.reading import Reader
from replicator.stream.transform import FieldTransform

T = TypeVar("T")

_ROWS_PER_S = 2000.0
"""A cautious rate of copying, for judging the log's retention before anything was measured."""
_NOTHING_BEGUN = Standing()


async def preflight_or_refuse(
    settings: Settings,
    *,
    source: Reader,
    target: Reader,
    feed: ChangeFeed | None,
    standing: Standing = _NOTHING_BEGUN,
    fingerprint: str = "",
    wipe: Sequence[str] = (),
    models: Models | None = None,
) -> list[CheckFinding]:
    """
    The preflight of whoever is about to write. Returns what does not block. Raises Refused with
    the first finding that no waiting mends, Unavailable when a peer that is away is all that
    blocks.
    """
    findings = await run_checks(
        settings,
        source=source,
        target=target,
        feed=feed,
        standing=standing,
        fingerprint=fingerprint,
        wipe=wipe,
        models=models,
    )
    blocking = [finding for finding in findings if finding.severity is Severity.BLOCKS]
    lasting = [finding for finding in blocking if finding.code not in AWAY]
    if lasting:
        more = f"; and {len(lasting) - 1} more findings block" if len(lasting) > 1 else ""
        first = lasting[0]
        raise Refused(first.code, f"{first.subject}: {first.message}{more}")
    if blocking:
        told = dict.fromkeys(finding.message for finding in blocking)
        raise Unavailable(blocking[0].code, "; ".join(told))
    return findings


async def run_checks(
    settings: Settings,
    *,
    source: Reader,
    target: Reader,
    feed: ChangeFeed | None,
    standing: Standing = _NOTHING_BEGUN,
    fingerprint: str = "",
    wipe: Sequence[str] = (),
    found: Sequence[CheckFinding] = (),
    models: Models | None = None,
) -> list[CheckFinding]:
    """
    Every finding, blocking ones first, and those that were `found` before. `standing` is that
    of a migration under way, if any; `fingerprint` that of the settings, if they are to be
    compared with its own. Both stores are asked once: what they raise is a finding.
    """
    findings = [*found, *await _parts(settings, source, target, feed)]
    findings += await standing_findings(standing, feed, fingerprint)
    findings += _live(settings, source, target)
    findings += _settle(settings, source)
    points = 0
    targets = Targets()
    for collection in settings.collections:
        try:
            found, count = await _collection(
                settings,
                collection,
                source=source,
                target=target,
                targets=targets,
                standing=standing,
                wipe=wipe,
                models=models,
            )
        except ReplicatorError as error:
            subject = f"collections/{collection.source}"
            findings.append(CheckFinding(Severity.BLOCKS, error.code, subject, error.message))
        else:
            findings += found
            points += count
    findings += targets.losses()
    part: object = feed
    if isinstance(part, Retention) and not standing.has_copied:
        findings += await _retention(part, points)
    unique = list(dict.fromkeys(findings))
    order = list(Severity)
    return sorted(unique, key=lambda finding: order.index(finding.severity))


async def _parts(
    settings: Settings, source: Reader, target: Reader, feed: ChangeFeed | None
) -> list[CheckFinding]:
    """What the parts say of themselves. The source is written too where there is a way back."""
    findings: list[CheckFinding] = []
    looked: list[tuple[str, object]] = [
        ("source", source.store),
        ("target", target.store),
        ("feed", feed),
    ]
    for role, part in looked:
        if isinstance(part, SelfCheck):
            findings += [
                msgspec.structs.replace(each, code=_code_of(each.code, role))
                for each in await part.check()
            ]
    written: list[tuple[object, list[str]]] = [(target.store, settings.targets)]
    if feed is not None:
        written.append(
            (source.store, [collection.source for collection in settings.collections])
        )
    for part, names in written:
        if isinstance(part, WriteCheck):
            try:
                findings += await part.check_writing(names)
            except Retryable:
                continue  # it is away, which its own check has said
    return findings


def _code_of(code: str, role: str) -> str:
    """A store that is away does not know which of the two it is; its code shall say so."""
    if code != "store-unavailable":
        return code
    return "source-unavailable" if role == "source" else "target-unavailable"


async def _of(role: str, answer: Awaitable[T]) -> T:
    """What a store of this role answers, or its error with the role's code."""
    try:
        return await answer
    except Unavailable as error:
        raise Unavailable(_code_of(error.code, role), error.message) from error


def _live(settings: Settings, source: Reader, target: Reader) -> list[CheckFinding]:
    if isinstance(settings.feed, NoFeedSettings):
        return []
    plain = 'a plain copy has feed.kind = "none"'
    told = []
    if not source.traits.live:
        told.append(("source", f"nobody may write this store while it is copied: {plain}"))
    if not target.traits.follows:
        told.append(("target", f"this store is not written change by change: {plain}"))
    return [CheckFinding(Severity.BLOCKS, "unsupported", role, text) for role, text in told]


def _settle(settings: Settings, source: Reader) -> list[CheckFinding]:
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
    source: Reader,
    target: Reader,
    targets: Targets,
    standing: Standing,
    wipe: Sequence[str],
    models: Models | None,
) -> tuple[list[CheckFinding], int]:
    schema = await _of("source", source.schema(collection.source))
    at_target = await _of("target", target.describe(collection.target))
    if at_target is not None and is_one_collection(settings, schema, at_target):
        raise Refused(
            "target-is-source",
            f"{collection.target!r} is the collection that is read, {collection.source!r}",
        )
    scopes = scopes_of(settings, collection, schema)
    findings = _presence(collection, at_target, standing=standing, wipe=wipe)
    planned = await wanted_target(collection, schema, target.store, capture_id=None)
    wanted = targets.add(collection, schema, planned, at_target)
    there = at_target or wanted
    try:
        there = await _of("target", _foreseen(collection, wanted, there, target.store))
    except Refused as error:
        subject = f"target/{collection.target}"
        findings.append(CheckFinding(Severity.BLOCKS, error.code, subject, error.message))
    transform = FieldTransform(collection, there, schema, target.traits.payload)
    findings += transform.compatible(schema, there)
    findings += await look_at_models(collection, schema, transform, models)
    findings += conversions(
        source.traits.payload, target.traits.payload, f"target/{collection.target}"
    )
    findings += unheld(collection, wanted, target.traits.vectors)
    subject = f"collections/{collection.source}"
    findings += [
        CheckFinding(Severity.WARNS, "not-invertible", subject, sentence)
        for sentence in transform.lossy
    ]
    findings += [
        CheckFinding(Severity.WARNS, "filter-differs", subject, sentence)
        for sentence in differences(collection.transform.filter or {})
    ]
    findings += await _of(
        "source", sample_rows(collection, schema, there, transform, source, scopes=scopes)
    )
    return findings, await _of("source", source.count(collection.source, scopes)) or 0


async def _foreseen(
    collection: CollectionSettings,
    wanted: CollectionSchema,
    there: CollectionSchema,
    target: StoreWriter,
) -> CollectionSchema:
    """
    The target collection as the copy will find it. What is not there yet holds the ids that its
    store can hold, not those of the source. Raises Refused where it cannot be made or used.
    """
    part: object = target
    if not isinstance(part, Foresight):
        return there
    foreseen = await part.foresee(wanted)
    return msgspec.structs.replace(foreseen, name=collection.target)


def _presence(
    collection: CollectionSettings,
    at_target: CollectionSchema | None,
    *,
    standing: Standing,
    wipe: Sequence[str],
) -> list[CheckFinding]:
    """Is the target collection there when rows are, and is what it holds ours?"""
    subject = f"target/{collection.target}"
    record = standing.record
    if record is not None and record.phase is Phase.COMPLETE:
        return []  # nothing will be written
    if at_target is None:
        if not standing.needs_target:
            return []
        message = "the collection vanished that this migration copied to"
        return [CheckFinding(Severity.BLOCKS, "target-missing", subject, message)]
    wiped = collection.target in wipe and not standing.needs_target
    if at_target.points == 0 or wiped:
        return []
    ours = standing.capture_id
    # A store that keeps no mark is trusted once rows were copied there.
    known = (ours, None) if standing.needs_target else (ours,)
    if ours is not None and at_target.capture_id in known:
        return []
    message = f"it holds {at_target.points or 'some'} points that this migration did not copy"
    return [CheckFinding(Severity.BLOCKS, "target-not-empty", subject, message)]
