"""
A small Qdrant-compatible gRPC server over qdrant-edge, for demos, tests and laptops.

The points live in the real engine, so writes, filters, normalisation and search behave as on a
server; what a server has around it is emulated here: collections with their whole configuration
and metadata, aliases, statuses, `wait`, the limits of strict mode (`limits`), and durability of
all that across `kill -9`. Datatypes, modifiers and parameters of payload indexes are the
engine's own, so precision, scores and text filters are as on a server.

Emulated in form only (kept and shown, without effect): shards, replicas, HNSW parameters,
quantisation, where things are kept, write ordering, the API key. Not there, and answered
UNIMPLEMENTED: snapshots, cluster calls, grouping, recommendation, facets, ordering by payload,
geo filters.

The store conformance suite and the tests of the Qdrant connector were run on this server and
on Qdrant 1.18.3. Seen on this server alone: durability across `kill -9`, lost connections and
late writes, and every status but those of plain requests, which interceptors made. The words of
strict mode are those of the server's source, 1.18.3. Different from a server: a filter
that matches a boolean is UNIMPLEMENTED, because the engine's Python binding takes True for 1;
collections without any vector cannot be made; the index is built when `indexing_threshold` is
set, not in the background; a payload that is nested too deep to be read back is refused.

`server` starts and stops it; `collections` and `points` answer the two services; `registry`
remembers what is there; `shard` runs the engine in threads; `shape` and `limits` know the
configuration; `incoming`, `outgoing`, `indexes` and `filters` translate between messages and
the engine; `answers` turns failures into statuses.
"""

from __future__ import annotations

from replicator.local_store.server import LocalStoreServer, serve

__all__ = ["LocalStoreServer", "serve"]
