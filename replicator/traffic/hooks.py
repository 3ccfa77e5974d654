"""Commands to run and URLs to call at the steps of a cutover or revert."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from replicator.errors import Refused, Retryable
from replicator.model.phase import Direction
from replicator.settings.credentials import without
from replicator.settings.cutover import HookSettings, HooksSettings
from replicator.traffic.request import request

_TAIL_BYTES = 2000
"""As much of a failed command's last words as is shown."""


class Hooks:
    """The hooks of one migration."""

    def __init__(self, settings: HooksSettings, name: str, *, told: Sequence[str] = ()) -> None:
        """`told`: secrets that a command may find in the environment, and repeat."""
        self._settings = settings
        self._name = name
        self._told = told

    async def run(self, step: str, direction: Direction) -> None:
        """
        Run the hook of a step (`before_fence`, `after_fence`, `before_switch`, `after_switch`,
        `after_open`), if there is one: the command, then the URL. Raises Refused
        ("hook-failed"). A command that is not done when its time is over, or when the wait is
        cancelled, is killed with every process that it started.
        """
        hook: HookSettings | None = getattr(self._settings, step)
        if hook is None:
            return
        if hook.command:
            await self._run_command(step, hook, direction)
        if hook.url:
            await self._call(step, hook, direction)

    async def _run_command(self, step: str, hook: HookSettings, direction: Direction) -> None:
        assert hook.command
        environment = {
            **os.environ,
            "REPLICATOR_STEP": step,
            "REPLICATOR_NAME": self._name,
            "REPLICATOR_DIRECTION": direction.value,
        }
        # A file, not a pipe: a command that leaves a process behind would hold the pipe open.
        with tempfile.TemporaryFile() as words:
            try:
                process = await asyncio.create_subprocess_exec(
                    *hook.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=words,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as exc:
                raise _failed(step, f"cannot run {hook.command[0]!r}: {exc}") from exc
            try:
                async with asyncio.timeout(hook.timeout):
                    code = await process.wait()
            except TimeoutError as exc:
                await _kill(process)
                raise _failed(
                    step,
                    f"not done after {hook.timeout}; it was killed{self._tail(words, hook)}",
                ) from exc
            except asyncio.CancelledError:
                await _kill(process)
                raise
            if code != 0:
                raise _failed(step, f"exit status {code}{self._tail(words, hook)}")

    async def _call(self, step: str, hook: HookSettings, direction: Direction) -> None:
        body = {"step": step, "name": self._name, "direction": direction.value}
        try:
            reply = await request(
                "POST", hook.url, code="hook-failed", timeout_s=hook.timeout, body=body
            )
        except Retryable as error:
            raise _failed(step, error.message) from error
        if not reply.ok:
            raise _failed(step, f"the URL answered {reply}")

    def _tail(self, words: IO[bytes], hook: HookSettings) -> str:
        """The last words. What the command was given is not shown anywhere, and so not here."""
        arguments = (hook.command or [])[1:]
        told = [*arguments, *(each.partition("=")[2] for each in arguments), *self._told]
        size = words.seek(0, os.SEEK_END)
        # What is to be hidden is read whole, also where it begins before what is shown.
        words.seek(max(0, size - _TAIL_BYTES - max(len(each.encode()) for each in ("", *told))))
        text = without(words.read().decode("utf-8", "replace"), told)[-_TAIL_BYTES:].strip()
        return f": {text}" if text else ""


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _failed(step: str, message: str) -> Refused:
    return Refused("hook-failed", f"hook {step}: {message}")
