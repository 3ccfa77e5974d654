"""The addresses of the servers, by the names that the table gives them."""

from __future__ import annotations

import pytest

from tests.endtoend.rig import stores

__all__ = ["qdrant_grpc", "stores"]


@pytest.fixture(scope="session")
def qdrant_grpc(stores: tuple[str, str]) -> str:
    return stores[1]
