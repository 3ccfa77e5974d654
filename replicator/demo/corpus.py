"""
The demonstration's data: the docstrings of Python's own standard library, some thousand short
texts that every machine with a Python has.

They are read from the source files with `ast`, so nothing is imported and no module acts. The
order is that of the sorted file names, and within a file that of the text, so that two runs on
one Python see the same documents.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

_TEXT_CHARS_MAX = 600
"""Long enough for the words to differ, short enough that 4,000 documents stay near 3 MB."""

_LEFT_OUT = frozenset(
    {"test", "tests", "idlelib", "site-packages", "dist-packages", "turtledemo"}
)

_Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Document(msgspec.Struct, frozen=True):
    """One documented module, class or function."""

    name: str
    """Qualified, as in `json.decoder.JSONDecoder.decode`."""
    module: str
    kind: str
    """module, class or function"""
    text: str

    @property
    def private(self) -> bool:
        """Whether any part of the name begins with an underscore, by Python's convention."""
        return any(part.startswith("_") for part in self.name.split("."))


def documents(limit: int) -> list[Document]:
    """The first `limit` documents; fewer only if this Python has no more."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return list(islice(_all(root), limit))


def _all(root: Path) -> Iterator[Document]:
    for path in sorted(root.rglob("*.py"), key=_public_first):
        parts = path.relative_to(root).with_suffix("").parts
        if not _LEFT_OUT.isdisjoint(parts):
            continue
        if parts[-1] == "__init__":
            parts = parts[:-1]
        yield from _of_file(path, ".".join(parts))


def _public_first(path: Path) -> tuple[bool, Path]:
    """Otherwise a small corpus would be of private modules only, whose names sort first."""
    return path.name.startswith("_"), path


def _of_file(path: Path, module: str) -> Iterator[Document]:
    with warnings.catch_warnings():
        # Old escapes in old modules are not this program's to report.
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return  # files kept to be unparsable, such as those of a parser's own tests
    yield from _of_node(tree, module, module, "module")


def _of_node(
    node: ast.Module | _Documented, name: str, module: str, kind: str
) -> Iterator[Document]:
    text = " ".join((ast.get_docstring(node) or "").split())
    if text:
        yield Document(name, module, kind, text[:_TEXT_CHARS_MAX])
    for child in node.body:
        if isinstance(child, _Documented):
            inner = "class" if isinstance(child, ast.ClassDef) else "function"
            yield from _of_node(child, f"{name}.{child.name}", module, inner)
