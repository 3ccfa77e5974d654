"""
SQL by name: the statements lie in the `.sql` file beside this module.

What stands in braces there is put in by `statement`: names, which are quoted, and expressions
made of them. Values never are; they travel as parameters.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def _statements() -> dict[str, str]:
    text = files(__package__).joinpath("statements.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return dict(zip(parts[::2], (sql.strip() for sql in parts[1::2]), strict=True))


def statement(name: str, /, **parts: str) -> str:
    """A statement with its parts in place."""
    return _statements()[name].format(**parts) if parts else _statements()[name]


def quoted(*names: str) -> str:
    """A name as SQL takes it, whatever is in it; several are one within the other."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str) -> str:
    """A text as SQL takes it, where no parameter can stand."""
    assert "\0" not in text
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"
