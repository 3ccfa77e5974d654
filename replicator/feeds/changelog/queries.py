"""SQL by name: the statements lie in the `.sql` files beside this module."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def queries() -> dict[str, str]:
    """The statements of `queries.sql`, each under the name in the comment above it."""
    _, *parts = _NAME.split(_text("queries.sql"))
    return dict(zip(parts[::2], (sql.strip() for sql in parts[1::2]), strict=True))


@cache
def schema() -> str:
    """The script that makes the tables and triggers that are missing, and harms none there."""
    return _text("schema.sql")


@cache
def identity_schema() -> str:
    """The part of the script that gives a log of an older release its identity."""
    statements = [part.strip() for part in schema().split("\n\n")]
    found = [statement for statement in statements if "changes_identity" in statement]
    assert len(found) == 2, "the table, and its row"
    return "\n".join(found)


def _text(name: str) -> str:
    return files("replicator.feeds.changelog").joinpath(name).read_text(encoding="utf-8")
