"""What a configuration says of single collections, where the kind of store asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from replicator.settings.convert import convert
from replicator.settings.stores import StoreSettings


def options_of(
    store: StoreSettings, given: Mapping[str, Any], path: str
) -> msgspec.Struct | None:
    """
    The options of one collection at a store, those that are not given at their defaults; None
    where its kind has none. Raises Refused ("config-invalid", "config-unknown-key") naming the
    path.
    """
    if store.options is None:
        return None
    options: msgspec.Struct = convert(dict(given), store.options, {}, path)
    return options
