"""
Commands that are imported only when they are named, and errors told in one place.

Drivers take seconds to import and most commands need none, so each command lives in a module of
its own and imports what it needs inside.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from replicator.cli.options import FEED, JSON
from replicator.errors import Refused, ReplicatorError, exit_code, hint_of

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
        """
        Run the command; every error of ours ends as two lines, or with --json as a document on
        standard output, and the exit code it has.
        """
        try:
            return super().invoke(ctx)
        except ReplicatorError as error:
            tell(ctx, error)
            ctx.exit(exit_code(error))
        except click.UsageError as error:
            if not ctx.meta.get(JSON):
                raise
            tell(ctx, Refused("bad-request", error.format_message()))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output (`head`, a pager) has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(1)


def tell(ctx: click.Context, error: ReplicatorError) -> None:
    """One line that says what happened, one that says what to do; or the same as JSON."""
    hint = hint_of(error.code, ctx.meta.get(FEED, ""))
    if ctx.meta.get(JSON):
        told = {
            "code": error.code,
            "message": error.message,
            "hint": hint,
            "kind": type(error).__name__,
            "exit_code": exit_code(error),
        }
        click.echo(json.dumps({"error": told}, indent=2, ensure_ascii=False))
        return
    click.echo(f"error[{error.code}]: {error.message}", err=True)
    click.echo(f"hint: {hint}", err=True)
