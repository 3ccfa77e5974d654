"""From patterns to names: which collections are meant, of those that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from replicator.errors import Refused
from replicator.settings.convert import invalid
from replicator.settings.patterns import Pattern
from replicator.settings.settings import Settings
from replicator.settings.transform import CollectionSettings


def expanded(settings: Settings, names: Iterable[str]) -> Settings:
    """
    The settings with a table for each of these names that is meant, and no pattern. A name that
    has a table of its own goes by that, and else by the first pattern that matches; a name that
    nothing matches is left out. Raises Refused("config-invalid") where the target cannot have a
    collection of a name, or has another one of it.
    """
    explicit = {
        each.source: number
        for number, each in enumerate(settings.collections)
        if not isinstance(each.source, Pattern)
    }
    meant: dict[int, list[CollectionSettings]] = {
        number: [settings.collections[number]] for number in explicit.values()
    }
    for name in sorted(set(names) - explicit.keys()):
        found = next(_matching(settings, name), None)
        if found is not None:
            number, table = found
            _check_target(settings, number, name)
            taken = msgspec.structs.replace(table, source=name, target=name)
            meant.setdefault(number, []).append(taken)
    collections = [each for number in sorted(meant) for each in meant[number]]
    return msgspec.structs.replace(settings, collections=collections)


def check_matched(settings: Settings, names: Iterable[str]) -> None:
    """Raises Refused("collections-unmatched") for a pattern that none of these matches."""
    listed = list(names)
    for number, table in enumerate(settings.collections):
        pattern = table.source
        if isinstance(pattern, Pattern) and not any(map(pattern.matches, listed)):
            raise Refused(
                "collections-unmatched",
                f"collections[{number}].source: {str(pattern)!r} matches none of the "
                f"{len(listed)} collections that are listed",
            )


def lists(settings: Settings, name: str) -> bool:
    """Whether a source collection of this name is meant, by itself or by a pattern."""
    named = any(
        each.source == name and not isinstance(each.source, Pattern)
        for each in settings.collections
    )
    return named or next(_matching(settings, name), None) is not None


def may_be_target(settings: Settings, name: str) -> bool:
    """Whether a target collection of this name is meant, or may be once patterns are names."""
    return any(
        each.source.matches(name) if isinstance(each.source, Pattern) else each.target == name
        for each in settings.collections
    )


def _matching(settings: Settings, name: str) -> Iterator[tuple[int, CollectionSettings]]:
    for number, each in enumerate(settings.collections):
        if isinstance(each.source, Pattern) and each.source.matches(name):
            yield number, each


def _check_target(settings: Settings, number: int, name: str) -> None:
    path = f"collections[{number}]"
    if (why := settings.target.unfit(name)) is not None:
        raise invalid(path, f"it takes {name!r}, which at the target {why}; {_APART}")
    for other, each in enumerate(settings.collections):
        if each.target == name and not isinstance(each.source, Pattern):
            raise invalid(
                path,
                f"it takes {name!r}, and collections[{other}] writes the target of that name; "
                f"{_APART}",
            )


_APART = "give it a table of its own, with another name as its `target`"
