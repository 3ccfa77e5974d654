"""The oracle itself: what it expects, and that it sees every kind of difference."""

from __future__ import annotations

import ast
import struct
from pathlib import Path
from random import Random
from typing import Any

import pytest

from replicator.model.phase import Phase
from replicator.model.point import Point, PointId
from replicator.model.schema import Distance
from replicator.settings.transform import CollectionSettings, TransformSettings
from tests.simulation.cells import COMMANDS, SITUATIONS, UNREACHABLE, demanded
from tests.simulation.coverage import Coverage
from tests.simulation.oracle import Image, carried, differences, patched, target_id
from tests.simulation.plan import CollectionPlan, draw
from tests.simulation.values import random_image, random_patch, vector_of


def plan_of(**steps: Any) -> CollectionPlan:
    return CollectionPlan(
        settings=CollectionSettings(
            source="books", target="books", transform=TransformSettings(**steps)
        ),
        ids=[1],
        vectors={"": 2},
        distance=Distance.DOT,
        versioned=False,
    )


def image(**payload: object) -> Image:
    return Image({"": vector_of(2, 1.0)}, payload)


def test_the_steps_are_taken_in_their_order() -> None:
    plan = plan_of(
        drop=["junk"],
        default={"lang": "xx"},
        cast={"year": "str"},
        rename={"year": "y"},
        constant={"origin": "here"},
        vectors={"": "text"},
    )
    point = carried(plan, 1, image(year=5, junk=1))
    assert point is not None
    assert point.payload == {"lang": "xx", "y": "5", "origin": "here"}
    assert set(point.vectors) == {"text"}


@pytest.mark.parametrize(
    ("payload", "travels"), [({"year": 5}, True), ({"year": 2}, False), ({}, False)]
)
def test_a_filter_leaves_out_what_does_not_match(
    payload: dict[str, int], travels: bool
) -> None:
    plan = plan_of(filter={"must": [{"key": "year", "range": {"gte": 3}}]})
    assert (carried(plan, 1, image(**payload)) is not None) == travels


def test_an_id_that_the_target_cannot_hold_is_mapped_and_kept_in_the_payload() -> None:
    plan = plan_of()
    point = carried(plan, "a/b", image())
    assert point is not None
    assert point.id == target_id(plan, "a/b") != "a/b"
    assert point.payload == {"_source_id": "a/b"}


def test_a_patch_sets_unsets_and_replaces_vectors() -> None:
    change = {"set": {"n": 2}, "unset": ["lang"], "vectors": {"": vector_of(2, 9.0)}}
    assert patched(image(n=1, lang="en", year=3), change) == Image(
        {"": vector_of(2, 9.0)}, {"n": 2, "year": 3}
    )


def point(n: object, x: float = 1.0) -> Point:
    return Point(id=1, vectors={"": vector_of(2, x)}, payload={"n": n})


@pytest.mark.parametrize(
    ("expected", "found", "words"),
    [
        ({1: point(1)}, {}, "missing"),
        ({}, {1: point(1)}, "extra"),
        ({1: point(1)}, {1: point(2)}, "holds"),
        ({1: point(3)}, {1: point(3.0)}, "holds"),
        ({1: point(1, x=1.0)}, {1: point(1, x=1.1)}, "vectors"),
    ],
)
def test_every_kind_of_difference_is_told(
    expected: dict[PointId, Point], found: dict[PointId, Point], words: str
) -> None:
    [told] = differences(expected, found, Distance.DOT, set())
    assert words in told
    assert differences(expected, found, Distance.DOT, {1}) == []


def test_cosine_compares_directions() -> None:
    one: dict[PointId, Point] = {
        1: Point(id=1, vectors={"": struct.pack("<2f", 3, 4)}, payload={})
    }
    other: dict[PointId, Point] = {
        1: Point(id=1, vectors={"": struct.pack("<2f", 0.6, 0.8)}, payload={})
    }
    assert differences(one, other, Distance.COSINE, set()) == []
    assert differences(one, other, Distance.DOT, set()) != []


def test_a_seed_is_the_same_plan_for_ever() -> None:
    assert draw(7) == draw(7)
    assert len({draw(seed).story for seed in range(200)}) > 8


def test_values_are_unlike_each_other() -> None:
    random, plan = Random(1), plan_of()
    images = [random_image(random, plan, number) for number in range(50)]
    assert len({made.payload["n"] for made in images}) == 50
    assert all(random_patch(random, plan, images[0], number) for number in range(50))


def test_the_oracle_shares_nothing_with_what_it_judges() -> None:
    judged = (
        "replicator.stream",
        "replicator.migration",
        "replicator.codecs",
        "replicator.state",
    )
    for name in ("oracle", "values"):
        path = Path(__file__).parent / f"{name}.py"
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in getattr(node, "names", [])]
            assert not [each for each in names if each.startswith(judged)], f"{name}: {names}"


def test_every_situation_is_demanded_or_said_to_be_out_of_reach() -> None:
    assert set(UNREACHABLE) < set(SITUATIONS)
    assert all(UNREACHABLE.values())
    left = [at for at in SITUATIONS if at not in UNREACHABLE]
    assert len(list(demanded())) == len(COMMANDS) * len(left)
    assert {phase for phase, _ in left} == {phase.value for phase in Phase}


def test_a_cell_that_stays_empty_is_told() -> None:
    coverage = Coverage()
    for command in COMMANDS:
        coverage.given(command, "STREAMING", "verify", "refused")
    assert not [name for name in coverage.ungiven() if name.endswith("STREAMING | verify")]
    assert len(coverage.ungiven()) == len(list(demanded())) - len(COMMANDS)
    coverage.given("own", "HELD", "nothing", "done")
    assert "own | HELD | nothing" not in coverage.ungiven()
    assert "own 1/0/0" in coverage.report()
