"""The service's limits: every figure is that of the vendor's page of limits for serverless
indexes (docs.pinecone.io/reference/api/database-limits, read in August 2026) or of its client.
"""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one request may carry. Sizes in bytes."""

    upsert_records: int = 1000
    upsert_bytes: int = 2 << 20
    metadata_bytes: int = 40 << 10
    """Of one record, as JSON."""
    id_length: int = 512
    namespace_length: int = 512
    sparse_values: int = 1000
    """Non-zero ones of one record. An older page says so; the newer ones say nothing else."""
    dimensions: int = 20_000
    fetch_ids: int = 1000
    delete_ids: int = 1000
    list_ids: int = 100
    """On a page."""
    list_namespaces: int = 100
    fetch_by_metadata: int = 10_000
    top_k: int = 10_000
    top_k_with_values: int = 1000
    """Where values or metadata are asked for."""
    url_bytes: int = 16 << 10
    """Assumed, as most front ends have it: the page gives no figure, but ids travel in the
    address, and long ones are refused well before `fetch_ids`."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """How much a second may bring; None for any amount."""

    requests_per_namespace: int | None = None
    """Of queries, upserts, deletes and updates, each by itself."""
    fetches_per_index: int | None = None
    lists_per_index: int | None = None
    updates_per_namespace: int | None = None
    """Records that are updated."""


DOCUMENTED = Rates(
    requests_per_namespace=100,
    fetches_per_index=100,
    lists_per_index=200,
    updates_per_namespace=100,
)
"""Those of the page of limits, for a test that is about them."""
