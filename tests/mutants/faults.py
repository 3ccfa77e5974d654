"""The list of faults: what would be wrong, where, and which tests ought to notice."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

LISTS = Path(__file__).parent / "faults"


class Stale(Exception):
    """The list has rotted: a fault is not what it says any more."""


class Fault(msgspec.Struct, frozen=True):
    """One fault: `old` becomes `new` in `path`, and one of `tests` must fail."""

    name: str
    says: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]

    def planted(self, text: str) -> str:
        """The file with the fault in it. Raises Stale."""
        found = text.count(self.old)
        if found != 1:
            raise Stale(f"its text is found {found} times in {self.path}, not once")
        planted = text.replace(self.old, self.new)
        try:
            compile(planted, self.path, "exec", dont_inherit=True)
        except SyntaxError as error:
            raise Stale(f"it is no Python: {error}") from error
        if planted == text:
            raise Stale("it changes nothing")
        return planted


def load(lists: Path = LISTS) -> list[Fault]:
    """Every fault, in the lists' order. Raises Stale when two have one name."""
    faults: list[Fault] = []
    for path in sorted(lists.glob("*.toml")):
        for file in tomllib.loads(path.read_text(encoding="utf-8"))["file"]:
            faults += [
                Fault(
                    name=each["name"],
                    says=each["says"],
                    path=file["path"],
                    old=each["old"],
                    new=each["new"],
                    tests=tuple(each.get("tests", file["tests"])),
                )
                for each in file["fault"]
            ]
    names = [fault.name for fault in faults]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Stale(f"there are two faults of one name: {', '.join(twice)}")
    return faults


def rotten(fault: Fault, root: Path) -> str:
    """Why a fault cannot be planted in the tree at `root`; empty when it can."""
    for test in fault.tests:
        if not (root / test).exists():
            return f"there is no {test}"
    path = root / fault.path
    if not path.exists():
        return f"there is no {fault.path}"
    try:
        fault.planted(path.read_text(encoding="utf-8"))
    except Stale as error:
        return str(error)
    return ""
