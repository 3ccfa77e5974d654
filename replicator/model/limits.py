"""What one request to a store may hold."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one request that writes. None: as much as is wanted."""

    records_max: int | None = None
    bytes_max: int | None = None
    """Of vectors and payloads, as they travel, about."""
