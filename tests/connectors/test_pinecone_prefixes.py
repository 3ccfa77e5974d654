"""Chunks by prefix: together they are all ids that there can be, and each id is in one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.connectors.pinecone.prefixes import (
    LOOKS_MAX,
    Part,
    Seen,
    Step,
    read_spec,
    split,
    steps_of,
    write_spec,
)
from replicator.errors import Fatal

PAGE = 5
IDS = st.text(st.characters(min_codepoint=1, max_codepoint=127), min_size=1, max_size=6)
ALIKE = st.text("ab\x01\x7f ", min_size=1, max_size=6)


class Namespace:
    """What a list shows of some ids, five a page."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids
        self.looks = 0

    async def look(self, prefixes: Sequence[str]) -> list[Seen]:
        self.looks += len(prefixes)
        counts = [sum(each.startswith(one) for each in self.ids) for one in prefixes]
        return [Seen(min(count, PAGE), count > PAGE) for count in counts]


def chunks_with(chunks: list[list[Step]], point_id: str) -> list[int]:
    """Where an id is met, once for each step that gives it."""
    return [
        number
        for number, steps in enumerate(chunks)
        for step in steps
        if (point_id == step.prefix if step.alone else point_id.startswith(step.prefix))
    ]


@given(
    st.lists(IDS | ALIKE, max_size=60, unique=True), st.lists(IDS | ALIKE), st.integers(1, 9)
)
async def test_every_id_that_there_is_or_will_be_is_in_one_chunk(
    early: list[str], late: list[str], parts: int
) -> None:
    found = await split(parts, Namespace(early).look)
    chunks = [steps_of(read_spec(write_spec(chunk))) for chunk in found]
    assert all(chunks)
    for each in [*early, *late]:
        assert len(chunks_with(chunks, each)) == 1, each


async def test_ids_that_end_where_a_prefix_is_cut_are_in_one_chunk() -> None:
    ids = ["a", "ab", *(f"a{n}" for n in range(9)), *(f"ab{n}" for n in range(9))]
    found = await split(9, Namespace(ids).look)
    chunks = [steps_of(chunk) for chunk in found]
    assert Step("ab", alone=True) in [step for chunk in chunks for step in chunk]
    for each in [*ids, "abc", "a\x01", "b", "\x7f"]:
        assert len(chunks_with(chunks, each)) == 1, each


async def test_steps_come_in_the_order_of_ids() -> None:
    ids = [f"{letter}{number}" for letter in "ab" for number in range(40)]
    chunks = await split(3, Namespace(ids).look)
    steps = [step for chunk in chunks for step in steps_of(chunk)]
    assert [step.prefix for step in steps] == sorted(step.prefix for step in steps)
    assert len({(step.prefix, step.alone) for step in steps}) == len(steps)


async def test_chunks_have_about_as_many_ids_each() -> None:
    ids = [f"doc-{number:04}" for number in range(10_000)]
    chunks = await split(8, Namespace(ids).look)
    steps = [steps_of(chunk) for chunk in chunks]
    shares = [
        sum(each.startswith(s.prefix) for s in some for each in ids if not s.alone)
        for some in steps
    ]
    assert 5 <= len(chunks) <= 9
    assert sum(shares) == len(ids)
    assert max(shares) <= 2 * len(ids) / len(chunks)


async def test_a_long_common_beginning_is_looked_at_no_further_than_the_budget() -> None:
    namespace = Namespace(["x" * 200 + str(number) for number in range(10)])
    [chunk] = await split(4, namespace.look)
    assert namespace.looks <= LOOKS_MAX
    assert chunks_with([steps_of(chunk)], namespace.ids[0]) == [0]


async def test_a_few_ids_are_one_chunk_that_is_listed_at_once() -> None:
    [chunk] = await split(8, Namespace(["a", "b"]).look)
    assert steps_of(chunk) == [Step("")]


async def test_without_looks_that_are_worth_it_there_is_one_chunk() -> None:
    namespace = Namespace([f"{number}" for number in range(1_000)])
    assert await split(8, namespace.look, 94) == [[Part("")]]
    assert namespace.looks == 0
    assert len(await split(8, namespace.look, 95)) > 4


def test_a_chunk_of_another_connector_is_a_defect() -> None:
    with pytest.raises(Fatal):
        read_spec("{}")
