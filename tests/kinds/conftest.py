"""Packages that bring a kind of store, as if they were installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from replicator.kinds import GROUP, kinds, variants


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that is looked through for packages, and kinds that are found anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    kinds.cache_clear()
    variants.cache_clear()
    yield tmp_path
    kinds.cache_clear()
    variants.cache_clear()


def brings(package: Path, name: str, entries: Mapping[str, str]) -> None:
    """Leave what an installer leaves of a package with these entry points."""
    info = package / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{GROUP}]", *(f"{entry} = {path}" for entry, path in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
