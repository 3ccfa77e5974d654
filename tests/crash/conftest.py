"""The parts of a migration, made to be killed."""

from __future__ import annotations

from tests.endtoend.rig import broker, changelog, rig, servers

__all__ = ["broker", "changelog", "rig", "servers"]
