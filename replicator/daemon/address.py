"""
Where the daemon listens, written beside its state, so that commands find it.

The file may outlive a daemon that was killed. Whoever reads it tries the address; the name of
the migration that answers there says whether it is still the right one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from replicator.errors import Refused


class Address(msgspec.Struct, frozen=True):
    """A daemon's HTTP address on its machine, and its process id."""

    url: str
    pid: int


def _path(state: str) -> Path:
    path = Path(state)
    return path.with_name(path.name + ".daemon")


def announce(state: str, url: str) -> None:
    """Write the address, whole or not at all. Raises Refused where the folder forbids it."""
    path = _path(state)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.encode(Address(url, os.getpid())))
        draft.replace(path)
    except OSError as exc:
        raise Refused(
            "config-invalid", f"state.path: cannot write beside {state}: {exc}"
        ) from exc


def withdraw(state: str) -> None:
    """Remove the address. One that stays behind is tried, and found out of date."""
    with suppress(OSError):
        _path(state).unlink()


def lookup(state: str) -> Address | None:
    """The address of the daemon that last announced itself on this state, if any did."""
    try:
        return msgspec.json.decode(_path(state).read_bytes(), type=Address)
    except (OSError, msgspec.DecodeError):
        return None
