"""
The migration that a command speaks to: the daemon that runs, else the state as it lies.

A daemon writes its address beside its state. What answers there must be our migration: the file
may be left from a daemon that was killed, and its port may be another program's by now.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from replicator.cli.offline import OfflineControl
from replicator.daemon import address
from replicator.errors import ReplicatorError
from replicator.ports.control import Control
from replicator.settings.settings import Settings
from replicator.wiring import state_is_held


@contextlib.asynccontextmanager
async def connection(settings: Settings) -> AsyncIterator[Control]:
    """
    The control port. Raises Unavailable("daemon-unavailable") when a daemon holds the state and
    does not answer, Refused("state-missing") when there is neither a daemon nor a state.
    """
    async with contextlib.AsyncExitStack() as stack:
        control = await _daemon(settings, stack)
        if control is None:
            from replicator.daemon import logs

            logs.quiet()  # standard output belongs to the result
            control = await stack.enter_async_context(OfflineControl.open(settings))
        yield control


async def _daemon(settings: Settings, stack: contextlib.AsyncExitStack) -> Control | None:
    found = address.lookup(settings.state.path)
    if found is None:
        return None
    from replicator.http.client import HttpControl

    remote = await stack.enter_async_context(HttpControl(found.url, settings.http.token))
    try:
        ours = (await remote.status()).name == settings.name
    except ReplicatorError:
        # Whoever answers strangely there, or not at all, is ours only if somebody holds the
        # state.
        if state_is_held(settings):
            raise
        return None
    return remote if ours else None
