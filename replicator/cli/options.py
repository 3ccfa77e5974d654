"""Options that many commands share, and the settings that `--config` names."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from replicator.errors import Refused

if TYPE_CHECKING:
    from replicator.settings.settings import Settings
    from replicator.settings.transform import CollectionSettings

F = TypeVar("F", bound=Callable[..., Any])


def _remember(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.obj = value


config = click.option(
    "-c",
    "--config",
    metavar="FILE",
    expose_value=False,
    callback=_remember,
    help="Configuration file. Default: $REPLICATOR_CONFIG, then config/replicator.toml.",
)
"""For every command that reads the configuration; it may stand before the command too."""

JSON = "replicator.json"
FEED = "replicator.feed"
"""What an invocation remembers for the telling of its error: whether it is to be JSON, and the
kind of the feed that hints speak of."""


def _remember_json(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    context.meta[JSON] = value
    return value


as_json = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,  # what is wrong with the others is told as JSON too
    callback=_remember_json,
    help="Print the result as JSON, an error too.",
)


def settings() -> Settings:
    """The settings of this invocation. Raises Refused for what is wrong with them."""
    from replicator.kinds import variants
    from replicator.settings.feeds import feed_kind
    from replicator.settings.load import discover, load

    context = click.get_current_context()
    loaded = load(discover(context.obj, os.environ), os.environ, variants())
    context.meta[FEED] = feed_kind(loaded.feed)
    return loaded


wipe_target = click.option(
    "--wipe-target",
    "wipe",
    metavar="NAME",
    multiple=True,
    help="Allow this target collection to be emptied before the copy. Repeat for several.",
)


def wiped(settings: Settings, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names given to --wipe-target. Raises Refused for one that is no target collection."""
    from replicator.settings.expansion import may_be_target

    for name in names:
        if not may_be_target(settings, name):
            known = ", ".join(_target_of(each) for each in settings.collections)
            raise Refused("not-found", f"--wipe-target {name}: the targets are {known}")
    return names


def _target_of(collection: CollectionSettings) -> str:
    from replicator.settings.patterns import Pattern

    pattern = collection.source
    return f"those of {pattern}" if isinstance(pattern, Pattern) else collection.target


yes = click.option("-y", "--yes", is_flag=True, help="Answer every question with yes.")


def confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal. Raises Refused("declined") for a no, and where nobody can answer."""
    try:
        agreed = yes or click.confirm(question, err=True)
    except click.Abort as exc:
        raise Refused("declined", "nobody answered; --yes answers for scripts") from exc
    if not agreed:
        raise Refused("declined", "the answer was no")
