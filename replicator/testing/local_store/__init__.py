"""
A small Qdrant-compatible gRPC server over qdrant-edge, for demos, tests and laptops.

The points live in the real engine, so writes, filters, normalisation and search behave as on a
server; what a server has around it is emulated here: collections with their configuration and
metadata, aliases, statuses, `wait`, and durability of all that across `kill -9`.

Emulated in form only (kept and shown, without effect): shards, replicas, HNSW parameters,
quantisation, strict mode, write ordering, the API key. Not there, and answered UNIMPLEMENTED:
snapshots, cluster calls, grouping, recommendation, facets, ordering by payload, geo filters.

`server` starts and stops it; `collections` and `points` answer the two services; `registry`
remembers what is there; `shard` runs the engine in threads; `incoming`, `outgoing` and
`filters` translate between messages and the engine; `answers` turns failures into statuses.
"""

from __future__ import annotations

from replicator.testing.local_store.server import LocalStoreServer, serve

__all__ = ["LocalStoreServer", "serve"]
