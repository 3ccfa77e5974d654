"""The kinds of stores of the matrix: one line each."""

from __future__ import annotations

from tests.matrix.access import Entry
from tests.matrix.stores.chroma import CHROMA
from tests.matrix.stores.files import JSONL, PARQUET
from tests.matrix.stores.milvus import MILVUS
from tests.matrix.stores.pgvector import PGVECTOR
from tests.matrix.stores.pinecone import PINECONE
from tests.matrix.stores.qdrant import QDRANT
from tests.matrix.stores.qdrant_embedded import QDRANT_EMBEDDED
from tests.matrix.stores.weaviate import WEAVIATE

ENTRIES: dict[str, Entry] = {
    entry.kind: entry
    for entry in (
        PGVECTOR,
        CHROMA,
        QDRANT,
        WEAVIATE,
        MILVUS,
        PINECONE,
        JSONL,
        PARQUET,
        QDRANT_EMBEDDED,
    )
}
"""In the order of the ring, where each is the source of the one behind it."""

PAIRS = [(source, target) for source in ENTRIES for target in ENTRIES]
RING = list(zip(ENTRIES, [*list(ENTRIES)[1:], *list(ENTRIES)[:1]], strict=True))
