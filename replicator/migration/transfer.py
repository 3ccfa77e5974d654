"""
Export and import: a plain copy between one of the configured stores and a directory of files.

Both are migrations without a feed, with a state of their own beside the files: parallel,
resumable after any crash, and verified at the end, because they run the same code.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from replicator.errors import Refused
from replicator.settings.feeds import NoFeedSettings
from replicator.settings.settings import Settings, StateSettings
from replicator.settings.stores import JsonlSettings
from replicator.settings.transform import CollectionSettings, TransformSettings


def export_settings(
    settings: Settings, *, side: str, collections: list[str], directory: str
) -> Settings:
    """
    Copy collections of the `side` (`source` or `target`) as they are into a directory. An empty
    list means all. Raises Refused("not-found").
    """
    store = settings.source if side == "source" else settings.target
    return msgspec.structs.replace(
        settings,
        name=f"{settings.name}-export",
        source=store,
        target=JsonlSettings(path=directory),
        collections=_as_they_are(settings, side, collections),
        feed=NoFeedSettings(),
        state=StateSettings(path=str(Path(directory) / ".export.db")),
    )


def import_settings(
    settings: Settings, *, side: str, collections: list[str], directory: str
) -> Settings:
    """Copy a directory's files into collections of the `side`. Raises Refused("not-found")."""
    store = settings.source if side == "source" else settings.target
    return msgspec.structs.replace(
        settings,
        name=f"{settings.name}-import",
        source=JsonlSettings(path=directory),
        target=store,
        collections=_as_they_are(settings, side, collections),
        feed=NoFeedSettings(),
        state=StateSettings(path=str(Path(directory) / ".import.db")),
    )


def _as_they_are(settings: Settings, side: str, wanted: list[str]) -> list[CollectionSettings]:
    known = {c.source if side == "source" else c.target: c for c in settings.collections}
    names = list(known)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise Refused(
            "not-found",
            f"no collection {missing[0]!r} at the {side}; there are {', '.join(names)}",
        )
    return [
        CollectionSettings(
            source=name,
            target=name,
            ids="auto",
            accept=known[name].accept,
            transform=TransformSettings(),
        )
        for name in wanted or names
    ]
