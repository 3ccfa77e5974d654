"""
The union of commands, walked: whoever adds one is told what it still lacks.

A rule says when it is possible, a route takes it over HTTP, the migration has a branch for it,
the command line a word, and the pages a line.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any, cast

import click
import pytest

from replicator.cli.main import cli
from replicator.http.routes import ROUTES, route_of
from replicator.migration.steering import Steering
from replicator.model.command import (
    COMMANDS,
    Acknowledge,
    Answer,
    AnyCommand,
    Command,
    Cutover,
    DiscardLetters,
    Own,
    Repair,
    RetryLetters,
    Revert,
    Tune,
    Verify,
)
from replicator.model.search import Query
from replicator.model.situation import _RULES
from replicator.testing.memory_control import MemoryControl
from tests.docs.tables import DOCS

GIVEN: list[Command[Any]] = [
    Tune({"stream.linger": "30ms"}),
    Verify(level="sample", queries=[Query(vector=b"", id=7)]),
    Repair("books"),
    RetryLetters((1, 2)),
    DiscardLetters((3,)),
    Cutover(dry_run=True, timeout_s=9.0, waive_recall=True),
    Revert(waive_dead_letters=True, yes=True),
    Own("target"),
    Acknowledge("misplaced-keys", "mended"),
    Answer(False),
]
"""With everything that can be said; what is not here says nothing but its name."""


def values() -> list[Command[Any]]:
    told = {type(command) for command in GIVEN}
    bare = cast("tuple[Callable[[], Command[Any]], ...]", COMMANDS)
    return [*GIVEN, *(command() for command in bare if command not in told)]


def branches(control: type) -> set[str]:
    """The commands that have a branch of their own."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(control)))  # type: ignore[arg-type]
    patterns = [node.cls for node in ast.walk(tree) if isinstance(node, ast.MatchClass)]
    return {pattern.id for pattern in patterns if isinstance(pattern, ast.Name)}


def test_the_union_holds_every_command_there_is_once_and_by_its_own_name() -> None:
    kinds: list[type[Command[Any]]] = [Command]
    found = set()
    while kinds:
        kind = kinds.pop()
        below = [each for each in kind.__subclasses__() if each.__module__ == kind.__module__]
        kinds += below
        if not below:
            found.add(kind)
    assert found == set(COMMANDS)
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)


def test_every_command_has_a_rule() -> None:
    assert set(_RULES) == set(COMMANDS)


@pytest.mark.parametrize("control", [Steering, MemoryControl])
def test_every_command_has_a_branch(control: type) -> None:
    assert {command.__name__ for command in COMMANDS} <= branches(control)


def test_every_command_has_a_route_of_its_own() -> None:
    assert {route.command for route in ROUTES} == set(COMMANDS)
    assert len({route.path for route in ROUTES}) == len(ROUTES) == len(COMMANDS)


@pytest.mark.parametrize("command", values(), ids=lambda command: command.name)
def test_a_command_comes_over_http_as_it_was_given(command: Command[Any]) -> None:
    route = route_of(command)
    assert route.read(route.write(command)) == command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_given_on_the_command_line_and_is_documented(
    command: type[AnyCommand],
) -> None:
    *words, last = command.name.split()
    found: click.Command = cli
    for word in [*words, *([] if last.startswith("--") else [last])]:
        assert isinstance(found, click.Group)
        part = found.get_command(click.Context(found), word)
        assert part is not None, f"no `replicator {command.name}`"
        found = part
    assert found.help
    if last.startswith("--"):
        assert last in {option for each in found.params for option in each.opts}
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert f"## `replicator {' '.join([*words, last]).partition(' --')[0]}`" in page


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command: type[AnyCommand]) -> None:
    assert command.__doc__
    assert command.__dict__.get("name"), "its own, and not that of what it is made from"
