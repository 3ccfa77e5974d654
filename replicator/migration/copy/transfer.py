"""
Export and import: a plain copy between one of the configured stores and a directory of files.

Both are migrations without a feed, with a state of their own beside the files: parallel,
resumable after any crash, and verified at the end, because they run the same code.

The files of a directory bear the names that their collections have at one side. An export notes
which; so an import finds them again at either side, whatever they are called there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from replicator.clock import Clock
from replicator.errors import Refused
from replicator.migration.evidence.journal import Journal
from replicator.model.phase import Phase
from replicator.model.record import MigrationRecord
from replicator.ports.kind import DirectoryOf
from replicator.ports.state import StateStore
from replicator.settings.feeds import NoFeedSettings
from replicator.settings.settings import Settings, StateSettings
from replicator.settings.stores import StoreSettings
from replicator.settings.transform import CollectionSettings, TransformSettings

_MANIFEST = "export.json"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an export leaves beside its files."""

    migration: str
    side: str
    """Whose names the files bear: `source` or `target`."""
    collections: dict[str, int]
    """Name → points."""


def export_settings(
    settings: Settings,
    *,
    side: str,
    collections: list[str],
    directory: str,
    files: DirectoryOf,
) -> Settings:
    """
    Copy collections of the `side` (`source` or `target`) as they are into a directory. An empty
    list means all. Raises Refused("not-found").
    """
    store = settings.source if side == "source" else settings.target
    at_side = _at_side(settings, side)
    return msgspec.structs.replace(
        settings,
        name=f"{settings.name}-export",
        source=store,
        target=files.settings(directory),
        collections=[
            msgspec.structs.replace(
                _as_it_is(name, name, at_side[name]),
                source_options=_options(store, at_side[name], side),
                # At the target there are no others, and a copy finds out whether there are any.
                scopes=at_side[name].scopes if side == "source" else None,
            )
            for name in _named(settings, side, collections)
        ],
        feed=NoFeedSettings(),
        state=StateSettings(path=str(Path(directory) / ".export.db")),
    )


def import_settings(
    settings: Settings,
    *,
    side: str,
    collections: list[str],
    directory: str,
    files: DirectoryOf,
) -> Settings:
    """
    Copy a directory's files into collections of the `side`. Raises Refused("not-found") for a
    name that is none of theirs.
    """
    store = settings.source if side == "source" else settings.target
    at_side = _at_side(settings, side)
    names = _named(settings, side, collections)
    is_there = partial(files.holds, directory)
    words = _words(settings, side, names, Path(directory), is_there)
    return msgspec.structs.replace(
        settings,
        name=f"{settings.name}-import",
        source=files.settings(directory),
        target=store,
        collections=[
            msgspec.structs.replace(
                _as_it_is(words[name], name, at_side[name]),
                target_options=_options(store, at_side[name], side),
            )
            for name in names
        ],
        feed=NoFeedSettings(),
        state=StateSettings(path=str(Path(directory) / ".import.db")),
    )


def leave_manifest(
    settings: Settings, directory: str, side: str, points: dict[str, int]
) -> None:
    """Note, beside an export's files, whose names they bear. `settings` are the export's."""
    manifest = Manifest(
        migration=settings.name.removesuffix("-export"), side=side, collections=points
    )
    path = Path(directory) / _MANIFEST
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def read_manifest(directory: Path) -> Manifest | None:
    """What the export left, if one did. Raises Refused("config-invalid")."""
    try:
        return msgspec.json.decode((directory / _MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as exc:
        raise Refused("config-invalid", f"{directory / _MANIFEST}: {exc}") from exc


def default_directory(settings: Settings) -> str:
    """Where an export goes, and an import looks, when nobody says."""
    return f"{settings.name}-export"


async def begin_again(
    state: StateStore, clock: Clock, *, wiping: bool
) -> MigrationRecord | None:
    """
    Let a transfer that is over begin once more, if there is a reason: rows of it were left and
    may be mended by now, or the target may be emptied. Returns the record as it was.

    Rows that were left are copied again under the same capture: what is at the target bears its
    mark, is ours, and is written over.
    """
    record = await state.load()
    if record is None or record.phase is not Phase.COMPLETE:
        return record
    left = (await state.letter_counts()).get("open", 0)
    if not left and not wiping:
        return record
    following = MigrationRecord(
        name=record.name,
        attempt=record.attempt + 1,
        phase=Phase.PLANNED if wiping else Phase.BACKFILL,
        capture=None if wiping else record.capture,
        fingerprint="" if wiping else record.fingerprint,
    )
    why = "the target may be emptied" if wiping else f"{left} rows were left"
    await Journal(state, record, clock).begin(following, f"begun again: {why}")
    return following


def _words(
    settings: Settings,
    side: str,
    names: list[str],
    directory: Path,
    is_there: Callable[[str], bool],
) -> dict[str, str]:
    """
    Which file each collection of the side comes from: as the manifest says; without one, the
    file of its own name, or, where none of those is there, of its name at the other side.
    """
    if side == "source":
        other = {each.source: each.target for each in settings.collections}
    else:
        other = {each.target: each.source for each in settings.collections}
    shared = _shared(settings)
    manifest = read_manifest(directory)
    if manifest is not None and manifest.side != side:
        # A file that somebody has renamed since bears the name that it was given.
        return {
            name: _unshared(name, other[name], shared) if is_there(other[name]) else name
            for name in names
        }
    if (
        manifest is None
        and not any(is_there(name) for name in names)
        and all(is_there(other[name]) for name in names)
    ):
        return {name: _unshared(name, other[name], shared) for name in names}
    return {name: name for name in names}


def _shared(settings: Settings) -> set[str]:
    """The target's collections to which several tables lead."""
    targets = Counter(collection.target for collection in settings.collections)
    return {name for name, tables in targets.items() if tables > 1}


def _unshared(name: str, file: str, shared: set[str]) -> str:
    """
    The file, which bears the name of the other side. Raises Refused where the one holds the
    points of several collections and the other those of one.
    """
    if name in shared or file in shared:
        raise Refused(
            "target-shared",
            f"{file!r} cannot be imported into {name!r}: one of them holds the points of"
            " several collections; import to the side that the files were exported from",
        )
    return file


def _named(settings: Settings, side: str, wanted: Sequence[str]) -> list[str]:
    names = list(_at_side(settings, side))
    missing = [name for name in wanted if name not in names]
    if missing:
        raise Refused(
            "not-found",
            f"no collection {missing[0]!r} at the {side}; there are {', '.join(names)}",
        )
    return list(wanted) or names


def _at_side(settings: Settings, side: str) -> dict[str, CollectionSettings]:
    """The collections by their names at the side; one that several share accepts what each of
    them does.
    """
    found: dict[str, CollectionSettings] = {}
    for each in settings.collections:
        name = each.source if side == "source" else each.target
        first = found.get(name, each)
        accept = [code for code in first.accept if code in each.accept]
        found[name] = msgspec.structs.replace(first, accept=accept)
    return found


def _as_it_is(source: str, target: str, settings: CollectionSettings) -> CollectionSettings:
    """With the losses that were accepted."""
    return CollectionSettings(
        source=source,
        target=target,
        ids="auto",
        accept=settings.accept,
        transform=TransformSettings(),
    )


def _options(store: StoreSettings, collection: CollectionSettings, side: str) -> dict[str, Any]:
    """How the side keeps a collection; what a new one is made with says nothing of it."""
    if store.options is None:
        return {}
    return collection.source_options if side == "source" else collection.target_options
