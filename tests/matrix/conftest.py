"""The addresses of the servers, by the names that the table gives them."""

from __future__ import annotations

import pytest

from tests.endtoend.rig import stores
from tests.plugins.weaviate import WeaviatePlace

__all__ = ["qdrant_grpc", "stores", "weaviate_address"]


@pytest.fixture(scope="session")
def qdrant_grpc(stores: tuple[str, str]) -> str:
    return stores[1]


@pytest.fixture(scope="session")
def weaviate_address(weaviate_place: WeaviatePlace) -> str:
    return f"{weaviate_place.rest} {weaviate_place.grpc}"
