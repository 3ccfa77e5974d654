"""
Qdrant over gRPC.

`wire` has the messages, with vectors as bytes; `values` and `points` translate between them and
the neutral model; `batch` turns a WriteBatch into operations; `schema` describes and creates
collections, `bulk` remembers deferred indexing in their metadata; `ranges` cuts the id space
into chunks; `filters` reads the filters of searches; `channel` makes calls and `failures`
translates what goes wrong; `store` is the connector.

Importing this package loads grpc and protobuf: do so when a Qdrant store is wanted.
"""

from __future__ import annotations

from replicator.connectors.qdrant.store import QdrantStore

__all__ = ["QdrantStore"]
