"""
One daemon holds a state at a time.

The lock is a `flock` on a file beside the state, held for the life of the process. The kernel
releases it when the process ends, however it ends, so a lock is never stale and never broken by
hand. The file itself stays: removing it would let two processes lock two files of one name.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from replicator.errors import Refused


class StateLock:
    """An exclusive lock on a state file, until `release`."""

    def __init__(self, state: Path) -> None:
        """Raises Refused ("state-locked") when another process, or this one, holds it."""
        path = state.with_name(state.name + ".lock")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise Refused(
                "state-locked", f"{state} is in use by process {holder or '(unknown)'}"
            ) from exc
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let another process have the state. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
