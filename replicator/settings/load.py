"""
Reading the configuration file: TOML, then the environment, then types, then what must hold
between settings. The first thing wrong is the error, with its path in the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from replicator.errors import Refused
from replicator.settings.consistency import check_consistency
from replicator.settings.convert import convert, invalid
from replicator.settings.environment import substitute
from replicator.settings.fingerprint import fingerprint
from replicator.settings.patterns import OWN_NAME, Pattern, read_name
from replicator.settings.redaction import redacted
from replicator.settings.settings import Settings
from replicator.settings.transform import CollectionSettings
from replicator.settings.variants import Variants

__all__ = ["discover", "fingerprint", "from_toml", "load", "redacted"]

DEFAULT_PATH = Path("config/replicator.toml")


def discover(explicit: str | Path | None, env: Mapping[str, str]) -> Path:
    """The file to read: the one named, else `$REPLICATOR_CONFIG`, else the default."""
    if explicit is not None:
        return Path(explicit)
    named = env.get("REPLICATOR_CONFIG")
    return Path(named) if named else DEFAULT_PATH


def load(path: str | Path, env: Mapping[str, str], variants: Variants) -> Settings:
    """
    Read and check a configuration file. `variants` are the kinds of stores that there are.

    Raises Refused: `config-missing`, `config-syntax`, `config-env`, `config-unknown-key`,
    `config-invalid`, `transform-invalid`. The message begins with the path in the file where
    there is one (`feed.topicc`, `collections[1].target`).
    """
    try:
        text = Path(path).read_bytes()
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise Refused("config-missing", f"{path} cannot be read: {reason}") from exc
    try:
        document = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as exc:
        raise Refused("config-syntax", f"{path}: {exc}") from exc
    return from_toml(document, env, variants)


def from_toml(document: dict[str, Any], env: Mapping[str, str], variants: Variants) -> Settings:
    """Settings from a parsed file. Raises Refused as `load` does."""
    written = substitute(document, env)
    collections = written.get("collections")
    if isinstance(collections, str):
        if collections != "*":
            raise invalid(
                "collections", 'is "*", for all that there are, or tables [[collections]]'
            )
        written = written | {"collections": [{"source": "*"}]}
    settings = convert(written, Settings, variants)
    assert isinstance(settings, Settings)
    named = [_named(number, each) for number, each in enumerate(settings.collections)]
    settings = msgspec.structs.replace(settings, collections=named)
    check_consistency(settings)
    return settings


def _named(number: int, collection: CollectionSettings) -> CollectionSettings:
    """With what its `source` means, a name or a pattern, and the name at the target."""
    try:
        source = read_name(collection.source)
    except ValueError as exc:
        raise invalid(f"collections[{number}].source", str(exc)) from exc
    target = collection.target
    if target == OWN_NAME and not isinstance(source, Pattern):
        target = source
    return msgspec.structs.replace(collection, source=source, target=target)
