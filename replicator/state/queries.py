"""SQL by name: statements and migrations lie in `.sql` files beside this module."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")


def load_queries() -> dict[str, str]:
    """The statements of `queries.sql`, each under the name in the comment above it."""
    text = files("replicator.state").joinpath("queries.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return dict(zip(parts[::2], (sql.strip() for sql in parts[1::2]), strict=True))


def load_migrations() -> list[str]:
    """The scripts of `migrations/` in order; the n-th brings the schema to version n."""
    found: dict[int, str] = {}
    for entry in files("replicator.state").joinpath("migrations").iterdir():
        if match := _MIGRATION.fullmatch(entry.name):
            found[int(match[1])] = entry.read_text(encoding="utf-8")
    assert sorted(found) == list(range(1, len(found) + 1)), "a migration's number is missing"
    return [found[version] for version in sorted(found)]
