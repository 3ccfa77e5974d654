"""JSONL files as a store."""

from replicator.connectors.jsonl.store import JsonlStore

__all__ = ["JsonlStore"]
