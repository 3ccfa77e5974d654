"""
Reading the configuration file: TOML, then the environment, then types, then what must hold
between settings. The first thing wrong is the error, with its path in the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from replicator.errors import Refused
from replicator.settings.consistency import check_consistency
from replicator.settings.convert import convert
from replicator.settings.environment import substitute
from replicator.settings.fingerprint import fingerprint
from replicator.settings.redaction import redacted
from replicator.settings.settings import Settings
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
    settings = convert(substitute(document, env), Settings, variants)
    assert isinstance(settings, Settings)
    check_consistency(settings)
    return settings
