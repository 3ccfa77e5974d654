from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner

from replicator.cli.main import cli
from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.kinds import variants
from replicator.settings.feeds import ChangelogSettings, KafkaSettings, NoFeedSettings
from replicator.settings.load import load

STORES = {"qdrant": QdrantSettings, "jsonl": JsonlSettings}
FEEDS = {"kafka": KafkaSettings, "changelog": ChangelogSettings, "none": NoFeedSettings}


@pytest.mark.parametrize(("source", "target", "feed"), list(product(STORES, STORES, FEEDS)))
def test_what_is_written_loads_as_it_is(
    tmp_path: Path, source: str, target: str, feed: str
) -> None:
    path = tmp_path / "config" / "mine.toml"
    arguments = ["--source", source, "--target", target, "--feed", feed, "-o", str(path)]
    result = CliRunner().invoke(
        cli, ["init", *arguments, "--collection", "a=b", "--collection", "c"]
    )
    assert result.exit_code == 0, result.stderr
    settings = load(path, {}, variants())
    assert isinstance(settings.source, STORES[source])
    assert isinstance(settings.target, STORES[target])
    assert isinstance(settings.feed, FEEDS[feed])
    pairs = [(each.source, each.target) for each in settings.collections]
    assert pairs == [("a", "b"), ("c", "c")]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "replicator.toml"
    path.write_text("precious")
    result = CliRunner().invoke(cli, ["init", "-o", str(path)])
    assert result.exit_code == 2
    assert "error[config-exists]" in result.stderr
    assert path.read_text() == "precious"


@pytest.mark.parametrize(("feed", "span_s"), [("kafka", 120.0), ("changelog", 10.0)])
def test_stragglers_are_awaited_as_long_as_the_feed_may_bring_them(
    tmp_path: Path, feed: str, span_s: float
) -> None:
    path = tmp_path / "mine.toml"
    result = CliRunner().invoke(cli, ["init", "--feed", feed, "-o", str(path)])
    assert result.exit_code == 0, result.stderr
    assert load(path, {}, variants()).cutover.delivery_timeout == span_s
