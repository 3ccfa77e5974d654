"""
Nothing but the reader reads a store. What is typed as a store can be read: of the core only the
reader, and who hands the stores over, may know such a type. And every scan is closed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import replicator

ROOT = Path(replicator.__file__).parent
CORE = ("stream", "migration")

READING = {
    "Store",
    "StoreReader",
    "StoreSearcher",
    "KeyReader",
    "ScopeReader",
    "Narrower",
    "ConsistentReader",
    "BatchSearcher",
}
"""Types of `ports.store` by which a store can be read."""
KNOWS = {
    "stream/reading.py": {
        "Store",
        "KeyReader",
        "ScopeReader",
        "Narrower",
        "ConsistentReader",
        "BatchSearcher",
    },
    "migration/parts.py": {"Store"},
    "migration/process/engine.py": {"Store"},
}
"""Who may know which of them."""
HANDS_OVER = {
    "migration/process/engine.py": "__init__",
    "migration/evidence/taken.py": "take",
}
"""Where the stores of the parts are given to their readers and writers: the engine's, and one
that asks for the names of the collections before there is an engine."""
SCANS_OF_ITS_OWN = ("connectors/", "testing/")
"""Stores, and the suite that asks them without a reader."""


def files(*folders: str) -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if not folders or place.startswith(tuple(f"{folder}/" for folder in folders)):
            yield place, path.read_text(encoding="utf-8")


@cache
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


def known_types(text: str) -> set[str]:
    """Which types that read a store's module imports."""
    found: set[str] = set()
    for node in ast.walk(parsed(text)):
        match node:
            case ast.ImportFrom(module="replicator.ports.store", names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module="replicator.ports", names=names):
                found |= {"Store" for alias in names if alias.name == "store"}
            case ast.Import(names=names):
                found |= {"Store" for alias in names if alias.name == "replicator.ports.store"}
            case _:
                pass
    return found & READING


def parts_taken(text: str) -> list[str]:
    """Functions in which a store is taken out of the parts."""
    found = []
    for function in ast.walk(parsed(text)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            found += [
                function.name
                for node in ast.walk(function)
                if isinstance(node, ast.Attribute)
                and node.attr in ("source", "target")
                and _last(node.value) in ("parts", "_parts")
            ]
    return found


def open_scans(text: str) -> list[int]:
    """Lines in which a scan is begun that nobody closes."""
    tree = parsed(text)
    closed: set[ast.expr] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="aclosing"), args=[ast.Name(id=name)]):
                closed |= set(_named(tree, name))
            case ast.Call(func=ast.Name(id="aclosing"), args=[scan]):
                closed.add(scan)
            case _:
                pass
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("scan", "scan_keys", "scan_where", "fetch_parts")
        and node not in closed
    ]


def _named(tree: ast.AST, name: str) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=assigned)], value=value) if assigned == name:
                yield value
            case _:
                pass


def _last(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def test_of_the_core_only_the_reader_knows_how_a_store_is_read() -> None:
    known = {place: known_types(text) for place, text in files(*CORE)}
    assert {place: found for place, found in known.items() if found} == KNOWS


def test_the_stores_go_to_their_readers_and_nowhere_else() -> None:
    taken = {(place, where) for place, text in files() for where in parts_taken(text)}
    assert taken == set(HANDS_OVER.items())


def test_every_scan_is_closed() -> None:
    left = {
        place: lines
        for place, text in files()
        if not place.startswith((*SCANS_OF_ITS_OWN, "stream/reading.py"))
        and (lines := open_scans(text))
    }
    assert left == {}


def test_whoever_reads_a_store_past_the_reader_is_found() -> None:
    assert known_types("from replicator.ports.store import Page, KeyReader") == {"KeyReader"}
    assert known_types("from replicator.ports import store") == {"Store"}
    assert known_types("from replicator.ports.store import Page, StoreWriter") == set()
    assert parts_taken("def f(self):\n    return self._parts.source.describe") == ["f"]
    assert parts_taken("def f(engine):\n    return engine.parts.target") == ["f"]
    assert parts_taken("def f(engine):\n    return engine.target.count") == []
    assert open_scans("async for p in reader.scan(c, None, 1):\n    pass") == [1]
    assert open_scans("pages = x.scan(c)\nasync with aclosing(pages): ...") == []
    assert open_scans("async with aclosing(x.fetch_parts(c, i)) as parts: ...") == []
