"""What stands around the code: addresses, workflows and tools must agree with each other."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import yaml

from tests.docs.tables import ROOT

WORKFLOWS = ROOT / ".github/workflows"


def project() -> dict[str, Any]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text)["project"])


def jobs(workflow: str) -> dict[str, Any]:
    text = (WORKFLOWS / workflow).read_text(encoding="utf-8")
    return dict(yaml.safe_load(text)["jobs"])


def test_the_repository_has_one_address() -> None:
    home = project()["urls"]["Repository"]
    for url in project()["urls"].values():
        assert url.startswith(home)
    for path in [
        ROOT / "SECURITY.md",
        ROOT / "deploy/site/mkdocs.yml",
        *(ROOT / ".github").rglob("*.yml"),
    ]:
        for found in re.findall(
            r"https://github\.com/[\w.-]+/[\w.-]+", path.read_text("utf-8")
        ):
            assert found == home, path.name


def test_a_workflow_calls_only_targets_that_make_has() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    called = set()
    for path in WORKFLOWS.glob("*.yml"):
        called |= set(re.findall(r"run: make ([a-z-]+)", path.read_text("utf-8")))
    assert {"lint", "test", "coverage", "dist", "weaviate", "test-weaviate"} == called
    assert called <= targets


def test_every_python_that_the_classifiers_promise_is_tried() -> None:
    promised = re.findall(r"Python :: (3\.\d+)", " ".join(project()["classifiers"]))
    assert jobs("ci.yml")["fast"]["strategy"]["matrix"]["python-version"] == promised
    newest = (ROOT / "Makefile").read_text("utf-8").partition("mypy --python-version ")[2]
    assert newest.split()[0] == promised[-1]


def test_no_job_of_a_workflow_runs_without_an_end_or_with_more_rights_than_it_says() -> None:
    for path in WORKFLOWS.glob("*.yml"):
        assert yaml.safe_load(path.read_text("utf-8"))["permissions"] == {"contents": "read"}
        for name, job in jobs(path.name).items():
            assert job["timeout-minutes"] <= 90, f"{path.name}: {name}"


def test_what_is_published_was_built_once_and_by_no_stored_secret() -> None:
    release = jobs("release.yml")
    assert "build" in release["publish"]["needs"]
    assert release["publish"]["permissions"] == {"id-token": "write"}
    text = (WORKFLOWS / "release.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"secrets\.(\w+)", text)) == {"GITHUB_TOKEN"}
