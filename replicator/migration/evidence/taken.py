"""
Which collections a migration takes, where the configuration has patterns for them.

The source is asked once for what it lists, before anything else is done, and what it answered
is kept in the record with the capture: the names that are pinned there (`identity`). From then
on these are the collections of the migration, whatever the source lists: chunks, positions,
marks and what was verified speak of them, and a collection that joined later would have been
written before its first row was read. One that comes later and matches is *left out*: it is
shown, and its events are ignored as those of any collection that is not listed. One that
vanished is missed as any other.

Up to the capture nothing was read or written, so that whoever begins anew asks anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from replicator.errors import Refused, ReplicatorError, Retryable, Unavailable
from replicator.migration.parts import Parts
from replicator.model.finding import CheckFinding, Severity
from replicator.model.phase import Phase
from replicator.model.record import MigrationRecord
from replicator.ports.store import Optioned, StoreWriter
from replicator.settings.expansion import check_matched, expanded, lists
from replicator.settings.fingerprint import fingerprint
from replicator.settings.options import options_of
from replicator.settings.patterns import Pattern
from replicator.settings.settings import Settings
from replicator.settings.stores import StoreSettings
from replicator.stream.reading import Reader

_SOURCE = "source/"
_SHOWN = 20
"""Names in a sentence."""


def recorded(record: MigrationRecord | None) -> list[str] | None:
    """The source collections of a migration that has begun; None of one that is to begin."""
    if record is None or record.capture is None or record.phase is Phase.ABORTED:
        return None
    return [name[len(_SOURCE) :] for name in record.collections if name.startswith(_SOURCE)]


async def named(settings: Settings, record: MigrationRecord | None, source: Reader) -> Settings:
    """
    The settings with names in the place of patterns: those of the record, or, of a migration
    that is to begin, those that the source lists now. Raises Refused("collections-unmatched",
    "config-invalid"), Unavailable("source-unavailable").
    """
    if not settings.has_patterns:
        return settings
    names = recorded(record)
    if names is None:
        names = await listed(source)
        check_matched(settings, names)
    return expanded(settings, names)


async def listed(source: Reader) -> list[str]:
    """What the source lists, asked once. Raises Unavailable, Refused."""
    try:
        return await source.once.collections()
    except Retryable as error:
        # Too slow, or asked for too much: for whoever is about to begin, away.
        raise Unavailable("source-unavailable", error.message) from error


def left_out(settings: Settings, taken: Settings, names: Sequence[str]) -> list[str]:
    """Of these names, those that `settings` mean and that are not `taken`."""
    ours = {each.source for each in taken.collections}
    return [name for name in names if name not in ours and lists(settings, name)]


def in_words(names: Sequence[str]) -> str:
    """Some names, in a sentence."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


async def take(parts: Parts, record: MigrationRecord | None) -> Parts:
    """
    The parts of a migration whose collections are named. Raises as `named` does, and
    Refused("not-found") where a collection is to be wiped that is no target of it.
    """
    if not parts.settings.has_patterns:
        return parts
    settings = await named(parts.settings, record, Reader(parts.source))
    targets = [each.target for each in settings.collections]
    for name in parts.wipe:
        if name not in targets:
            raise Refused(
                "not-found", f"{name!r} is to be wiped; {in_words(targets)} are there"
            )
    choose_options(settings, parts.source, parts.target)
    return msgspec.structs.replace(parts, settings=settings, fingerprint=fingerprint(settings))


async def named_or_found(
    settings: Settings, record: MigrationRecord | None, source: Reader, target: Reader
) -> tuple[Settings, list[CheckFinding]]:
    """
    As `named`, for a check: what is wrong with the patterns is a finding, and then the
    collections that have names are left to be checked.
    """
    if not settings.has_patterns:
        return settings, []
    try:
        taken = await named(settings, record, source)
    except ReplicatorError as error:
        found = CheckFinding(Severity.BLOCKS, error.code, "collections", error.message)
        return expanded(settings, ()), [found]
    choose_options(taken, source.store, target.store)
    findings = [
        CheckFinding(
            Severity.INFORMS,
            "collections-taken",
            "collections",
            f"{len(taken.collections)} collections travel: "
            + in_words([each.source for each in taken.collections]),
        )
    ]
    if recorded(record) is not None:
        findings += await _left_out_findings(settings, taken, source)
    return taken, findings


async def _left_out_findings(
    settings: Settings, taken: Settings, source: Reader
) -> list[CheckFinding]:
    try:
        names = await listed(source)
    except Retryable:
        return []  # the source's own check says it
    except ReplicatorError as error:
        text = f"the source does not tell what came to it: {error.message}"
        return [CheckFinding(Severity.WARNS, error.code, "collections", text)]
    return [
        CheckFinding(
            Severity.WARNS,
            "collection-left-out",
            f"collections/{name}",
            f"{name!r} matches, and the migration began without it",
        )
        for name in left_out(settings, taken, names)
    ]


def choose_options(settings: Settings, source: StoreWriter, target: StoreWriter) -> None:
    """Tell both stores how the collections are kept, as far as their kinds have options."""
    for each in settings.collections:
        if isinstance(each.source, Pattern):
            continue
        _choose(source, settings.source, each.source, each.source_options)
        _choose(target, settings.target, each.target, each.target_options)


def _choose(
    store: object, settings: StoreSettings, collection: str, given: Mapping[str, Any]
) -> None:
    options = options_of(settings, given, f"options of {collection}")
    if options is not None:
        assert isinstance(store, Optioned), "its kind has options"
        store.choose(collection, options)
