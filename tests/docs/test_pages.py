from __future__ import annotations

import ast
import contextlib
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.exceptions import NoArgsIsHelpError

from replicator.cli.main import cli
from replicator.errors import CODES
from replicator.kinds import variants
from replicator.losses import LOSSES
from replicator.migration.cutover.gate import BLOCKERS
from replicator.settings.load import from_toml
from replicator.settings.settings import Settings
from tests.docs.tables import DOCS, ROOT, declared_commands

PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
RUNBOOKS = sorted((DOCS / "runbooks").glob("*.md"))


def by_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> Iterator[str]:
    """Fenced blocks of a language, with their indentation taken away."""
    fence: str | None = None
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith("```"):
            if fence == language:
                yield "\n".join(lines)
            # What opens names a language, or none; what closes is followed by text again.
            fence, lines = (
                (line.strip().removeprefix("```"), []) if fence is None else (None, [])
            )
            margin = indent
        elif fence is not None:
            lines.append(line[margin:])


def command_lines(path: Path) -> Iterator[str]:
    for block in blocks(path, ""):
        for line in block.splitlines():
            if line.startswith("replicator "):
                yield line
    yield from re.findall(r"`(replicator [^`\n]+)`", path.read_text(encoding="utf-8"))


def parse(words: list[str]) -> None:
    """Parse a command line as the program would, without running it."""
    command: click.Command = cli
    context = cli.make_context("replicator", words, resilient_parsing=False)
    while isinstance(command, click.Group):
        remaining = [*context._protected_args, *context.args]
        name, part, arguments = command.resolve_command(context, remaining)
        assert part is not None
        command = part
        context = command.make_context(name, arguments, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_documented_command_line_parses(page: Path) -> None:
    for line in command_lines(page):
        # Of alternatives (`own source|target`) the first stands for all.
        words = [word.partition("|")[0] for word in shlex.split(line, comments=True)[1:]]
        if "…" in line or words == ["…"]:
            continue
        # Prose may name a command without its argument; a wrong name or option may not pass.
        with contextlib.suppress(click.MissingParameter, NoArgsIsHelpError):
            parse(words)


def test_every_make_target_that_is_named_exists_and_every_target_tells_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets == set(phony.split())
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
            assert name in targets, f"{page.name} says make {name}"


def test_every_command_is_told_in_the_readme_a_runbook_or_the_list_of_commands() -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    for words, command in declared_commands():
        assert command.help, f"{' '.join(words)} says nothing of itself"
        if words:
            assert f"## `replicator {' '.join(words)}`" in page


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name} links to {target}"


def anchors(path: Path) -> set[str]:
    """Headings as the usual renderers name them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_runbook_and_decision_is_listed() -> None:
    for folder in ("runbooks", "adr"):
        index = (DOCS / folder / "README.md").read_text(encoding="utf-8")
        for path in (DOCS / folder).glob("*.md"):
            assert path.name == "README.md" or f"]({path.name})" in index


@pytest.mark.parametrize("page", RUNBOOKS, ids=by_name)
def test_a_runbook_names_only_codes_that_exist(page: Path) -> None:
    known = {*CODES, *BLOCKERS, *(words[0] for words, _ in declared_commands() if words)}
    for word in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", page.read_text(encoding="utf-8")):
        assert word in known, f"{page.name} names `{word}`"


def raised_codes() -> set[str]:
    """Codes that some line of the program raises, or gives as a reason."""
    found: set[str] = set()
    for path in (ROOT / "replicator").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name == "errors.py":  # its table names every code; an error may bring its own
            text = "".join(re.findall(r"super\(\).__init__\(\s*\"[a-z-]+\"", text))
        if path.name == "gate.py":  # its table names every code; what it gives is what counts
            text = "".join(re.findall(r"Blocker\(\s*\"[a-z-]+\"", text))
        found |= set(re.findall(r"\"([a-z]+(?:-[a-z]+)*)\"", text))
    return found


def test_every_code_that_is_declared_is_raised_somewhere() -> None:
    """So a runbook, which names only declared ones, speaks of nothing that cannot happen."""
    made = set(LOSSES)  # of the names of settings; their own tests meet each of them
    assert {*CODES, *BLOCKERS} - raised_codes() - made == set()


# -- settings


def sections() -> dict[str, set[str]]:
    """Section → its keys, over all kinds of the section."""
    found: dict[str, set[str]] = {}
    for field in msgspec.structs.fields(Settings):
        types = getattr(field.type, "__args__", (field.type,))
        keys: set[str] = set()
        for kind in types:
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                keys |= {inner.name for inner in msgspec.structs.fields(kind)}
        found[field.name] = keys | {"kind"}
    return found


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_a_page_names_only_settings_that_exist(page: Path) -> None:
    known = sections()
    names = re.findall(
        r"`([a-z]+)\.([a-z_]+)(?:\.[a-z_]+)?(?: = .*?)?`", page.read_text("utf-8")
    )
    for section, key in names:
        if section in known and key not in {"md", "toml", "py", "db"}:
            assert key in known[section] or is_of_the_status(section, key), (
                f"{page.name} names `{section}.{key}`"
            )


def is_of_the_status(section: str, key: str) -> bool:
    from replicator.model.status import Status

    for field in msgspec.structs.fields(Status):
        if field.name == section:
            kinds = getattr(field.type, "__args__", (field.type,))
            return any(
                key in {inner.name for inner in msgspec.structs.fields(kind)}
                for kind in kinds
                if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
            )
    return False


WHOLE: dict[str, Any] = {
    "name": "docs",
    "source": {"kind": "qdrant", "url": "http://source:6334"},
    "target": {"kind": "qdrant", "url": "http://target:6334"},
    "collections": [{"source": "docs", "target": "docs_v2"}],
    "feed": {"kind": "changelog", "path": "var/changes.db"},
    "http": {"token": "a secret"},
}
ADDRESS = "http://example.test:6334"
ENVIRONMENT = {
    "SOURCE_URL": ADDRESS,
    "TARGET_URL": ADDRESS,
    "KAFKA_BOOTSTRAP_SERVERS": "example.test:9092",
    "REPLICATOR_TOKEN": "secret",
    "QDRANT_API_KEY": "secret",
}


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_piece_of_configuration_is_accepted(page: Path) -> None:
    for block in blocks(page, "toml"):
        from_toml({**WHOLE, **tomllib.loads(block)}, ENVIRONMENT, variants())


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_what_the_python_of_a_page_imports_from_us_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("replicator"):
                module = import_module(str(node.module))
                assert [
                    each.name for each in node.names if not hasattr(module, each.name)
                ] == []


# -- what no tracked file may hold


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_tracked_file_holds_a_path_of_one_machine_or_the_address_of_an_index() -> None:
    homes = "|".join(["wor" + "k", "roo" + "t", "hom" + "e", "User" + "s"])
    forbidden = re.compile(
        rf"(?<![\w.:*-])/(?:{homes})/\w|py" + r"pi\.org|python" + r"hosted|index" + r"-url|"
        r"registry\.np" + r"mjs|maven\.or" + r"g|proxy\.go" + r"lang"
    )
    for path in tracked():
        if not path.exists():
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        found = forbidden.search(text)
        words = None if found is None else found[0]
        assert words is None, f"{path.relative_to(ROOT)} holds {words!r}"
