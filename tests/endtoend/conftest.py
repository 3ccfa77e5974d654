"""The parts of a migration, made on demand."""

from __future__ import annotations

from tests.endtoend.rig import broker, changelog, rig, servers, stores, topic

__all__ = ["broker", "changelog", "rig", "servers", "stores", "topic"]
