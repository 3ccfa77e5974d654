"""
Commands that are imported only when they are named, and errors told in one place.

Drivers take seconds to import and most commands need none, so each command lives in a module of
its own and imports what it needs inside.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from replicator.errors import ReplicatorError, exit_code

_INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group whose commands stand at `module:name`."""

    def __init__(self, *args: Any, commands_at: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order given, which tells a story; the alphabet does not."""
        return list(self._commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        at = self._commands_at.get(cmd_name)
        if at is None:
            return None
        module, _, name = at.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; every error of ours ends as two lines and the exit code it has."""
        try:
            return super().invoke(ctx)
        except ReplicatorError as error:
            tell(error)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output (`head`, a pager) has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(1)


def tell(error: ReplicatorError) -> None:
    """One line that says what happened, one that says what to do."""
    click.echo(f"error[{error.code}]: {error.message}", err=True)
    click.echo(f"hint: {error.hint}", err=True)
