"""From Pinecone to Qdrant and back: a strict double of the service, and the real engine."""

from __future__ import annotations

from pathlib import Path

from tests.matrix.play import play
from tests.matrix.stores.pinecone import PINECONE
from tests.matrix.stores.qdrant import QDRANT


async def test_a_live_application_moves_from_pinecone_to_qdrant_and_back(
    stores: tuple[str, str], tmp_path: Path
) -> None:
    told = await play(tmp_path, (PINECONE, ""), (QDRANT, stores[1]), points=600)
    assert told["live"]
