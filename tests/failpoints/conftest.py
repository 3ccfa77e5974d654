"""The parts of a migration, made to die at a place by name."""

from __future__ import annotations

from tests.endtoend.rig import changelog, rig, stores

__all__ = ["changelog", "rig", "stores"]
