"""Settings of the stores, all in one place free of drivers, told apart by `kind`."""

from __future__ import annotations

import msgspec

from replicator.settings.units import Duration, Secret, Size


class QdrantSettings(
    msgspec.Struct,
    tag="qdrant",
    tag_field="kind",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """A Qdrant server over gRPC, or the local store server."""

    url: str = "http://localhost:6334"
    """Address of the gRPC port; `https://` for TLS."""
    api_key: Secret = Secret("")
    """API key, if the server asks for one."""
    ca_file: str = ""
    """CA certificates, in PEM, that the server's certificate is checked with; the system's when
    empty."""
    timeout: Duration = Duration(30)
    """How long the server may take over one request. A client's deadline cancels nothing at the
    server."""
    late_write_bound: Duration = Duration(60)
    """How long after a lost reply a write may still land. Half of it risks that an old write
    overtakes a new one; twice it only slows recovery after lost replies."""
    staleness: Duration = Duration(0)
    """How long a read may lag a write. 0 for one node; more when reads may go to lagging
    replicas."""
    shard_number: int | None = None
    """Shards of a collection that the replicator creates; the server's default when absent."""
    replication_factor: int | None = None
    """Replicas of a collection that the replicator creates; the server's default when absent.
    """
    defer_indexing: bool = True
    """Defer indexing of a collection that the replicator creates until the copy is done."""


class JsonlSettings(
    msgspec.Struct,
    tag="jsonl",
    tag_field="kind",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """A directory with one `<collection>.jsonl` for each collection."""

    path: str
    """The directory. Made when absent."""
    fsync: bool = True
    """Force every batch to the disk before it counts as written."""
    segment_bytes: Size = Size(1 << 20)
    """A copy is not cut into chunks that would read less than this. Smaller lets more readers
    share a small file; larger saves chunks that are not worth their overhead."""


StoreSettings = QdrantSettings | JsonlSettings
