"""
A Python in which only some extras of the distribution are installed.

A finder in place of the others hides every package that the base, with the extras named, does
not bring. So no test needs an environment of its own, nor the network to make one.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

_HIDE = """
import sys
from importlib.machinery import PathFinder
class Veil(PathFinder):
    finders = list(sys.meta_path)
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            return None
        found = (finder.find_spec(name, path, target) for finder in cls.finders)
        return next((spec for spec in found if spec is not None), None)
sys.meta_path[:] = [Veil]
"""


def run(program: str, extras: Iterable[str] = (), *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a program in such a Python."""
    done = subprocess.run(
        [sys.executable, "-c", _HIDE.format(hidden=hidden(extras)) + program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@cache
def owners() -> dict[str, set[str]]:
    """Top-level module → the distributions that have it."""
    return {
        module: {canonicalize_name(name) for name in names}
        for module, names in packages_distributions().items()
    }


def hidden(extras: Iterable[str]) -> set[str]:
    """Names of modules that only what is not installed would bring."""
    there = brought([*PROJECT["dependencies"], *(f"{PROJECT['name']}[{e}]" for e in extras)])
    return {module for module, names in owners().items() if not there & names}


def brought(requirements: Iterable[str]) -> set[str]:
    """The distributions that these requirements install, with all that they need."""
    found: set[str] = {canonicalize_name(PROJECT["name"])}
    left = [(each, "") for each in requirements]
    seen = set()
    while left:
        text, extra = left.pop()
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            if name == canonicalize_name(PROJECT["name"]):
                left += [(each, "") for each in EXTRAS[wanted]] if wanted else []
            else:
                found.add(name)
                left += [(each, wanted) for each in _requires(name)]
    return found


def _requires(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:  # for another platform, or of an extra that nobody has here
        return []
