"""The kinds of stores are told in words, and as a document."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from replicator.cli.main import cli
from replicator.cli.stores import sentences
from replicator.kinds import kinds
from replicator.model.schema import IdKinds, IdLimits
from replicator.model.traits import (
    IdRules,
    Limits,
    Lists,
    PayloadRules,
    Traits,
    VectorRules,
)

RICH = kinds()["qdrant"].traits
POOR = Traits(
    ids=IdRules(
        kinds=IdKinds.UINT64 | IdKinds.STRING,
        limits=IdLimits(
            integer_min=-(1 << 63), integer_max=(1 << 63) - 1, text_bytes_max=64, alphabet="a-z"
        ),
        mixed=False,
    ),
    vectors=VectorRules(
        unnamed=False,
        partial=False,
        schema=False,
        sparse_dimensions_max=1000,
        rounds=True,
        checks_dimensions=False,
        zero=False,
        negative=False,
        hybrid=True,
    ),
    payload=PayloadRules(
        nested=False,
        lists=Lists.NONE,
        null_is_absence=True,
        integer_max=1 << 53,
        integers_apart=False,
        nul=False,
        keys="[a-z]+",
    ),
    limits=Limits(records_max=1000, bytes_max=2_000_000),
    marks=False,
    patches=False,
    counts=False,
    creates_on_write=True,
    live=False,
    follows=False,
    filters=False,
)


def test_every_kind_is_told_with_what_it_can_do() -> None:
    result = CliRunner().invoke(cli, ["stores"])
    assert result.exit_code == 0, result.stderr
    for kind in kinds().values():
        assert f"{kind.name} (of replicator): " in result.stdout
        for _, sentence in sentences(kind.traits):
            assert sentence in result.stdout


def test_as_a_document_the_kinds_have_their_traits() -> None:
    result = CliRunner().invoke(cli, ["stores", "--json"])
    told = {each["kind"]: each for each in json.loads(result.stdout)}
    assert told.keys() == kinds().keys()
    assert told["qdrant"]["package"] == "replicator"
    assert told["qdrant"]["traits"]["ids"]["kinds"] == ["uint64", "uuid"]
    assert told["jsonl"]["traits"]["vectors"]["kinds"] == ["dense", "multi", "sparse"]


def fields(traits: object, path: str = "") -> list[str]:
    """Every trait by its path."""
    found = []
    for name in traits.__struct_fields__:  # type: ignore[attr-defined]
        value = getattr(traits, name)
        here = f"{path}{name}"
        found += fields(value, f"{here}.") if hasattr(value, "__struct_fields__") else [here]
    return found


@pytest.mark.parametrize("path", fields(RICH))
def test_every_trait_is_told(path: str) -> None:
    """A trait of the rich store in the poor one, or the other way, reads otherwise."""
    assert any(
        dict(sentences(changed(one, other, path.split(".")))) != dict(sentences(one))
        for one, other in ((RICH, POOR), (POOR, RICH))
    )


def changed(one: Traits, other: Traits, steps: list[str]) -> Traits:
    """The one with a single trait of the other."""
    name, *rest = steps
    theirs = getattr(other, name)
    if rest:
        theirs = changed(getattr(one, name), theirs, rest)
    return replace(one, **{name: theirs})
