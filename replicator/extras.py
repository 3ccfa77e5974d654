"""
Packages that only some installations have.

The base of the distribution holds what an application needs that imports a part of the
replicator; drivers, command line and demonstration are extras (`pyproject.toml`). So whoever
loads a driver says for what, and a package that is missing is named together with the extra
that brings it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from replicator.errors import Refused

DISTRIBUTION = "vector-replicator"


@contextlib.contextmanager
def needed_for(what: str, extra: str) -> Iterator[None]:
    """
    Around the import of what only an extra brings. Raises Refused("extra-missing") for a
    module that is not installed, and lets the absence of one of our own pass: a defect.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] == "replicator":
            raise
        raise Refused(
            "extra-missing",
            f"{what} needs the module {exc.name}, which is not installed: "
            f"pip install '{DISTRIBUTION}[{extra}]'",
        ) from exc
