from __future__ import annotations

import re

import pytest

from replicator.http.commands import Commands
from replicator.http.errands import Errands
from replicator.http.letters import Letters
from replicator.http.observe import Observe
from replicator.http.page import Page
from replicator.kinds import variants
from replicator.metrics import Metrics
from replicator.settings.reference import reference
from replicator.testing.memory_control import MemoryControl
from tests.docs.tables import DOCS, ROOT, TABLES, declared_metrics, made, standing


@pytest.mark.parametrize("table", TABLES)
def test_a_table_of_the_docs_is_what_the_code_says(table: str) -> None:
    assert standing(table) == made(table), "run: make docs"


def test_the_reference_lists_every_setting_as_it_is_declared() -> None:
    assert (ROOT / "config/reference.toml").read_text(encoding="utf-8") == reference(variants())


def test_every_request_of_the_daemon_is_documented_and_no_other() -> None:
    control = MemoryControl()
    routes = [
        *Observe(control, Metrics("docs", "0")).routes(),
        *Commands(control, Errands()).routes(),
        *Letters(control).routes(),
        *Page().routes(),
    ]
    pattern = re.compile(r":\[.*?\]\{.*?\}")
    served = {f"{route.method} {pattern.sub('', route.path)}" for route in routes}
    page = (DOCS / "http.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`((?:GET|POST) /[^`\s]*)`", page))
    assert documented == served


def test_alerts_and_pages_name_only_metrics_that_exist() -> None:
    names = set()
    for name, kind, _, _ in declared_metrics():
        names |= {name, name.removesuffix("_total")}
        if kind == "histogram":
            names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    for path in [*ROOT.glob("deploy/*.yml"), *DOCS.rglob("*.md"), ROOT / "README.md"]:
        text = path.read_text(encoding="utf-8")
        for word in re.findall(r"\breplicator_[a-z_]+\b", text):
            assert word in names, f"{path.name} names {word}"
