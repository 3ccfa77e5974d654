"""
Each kind of store once as source and once as target: the ring of the matrix, of which `make
matrix` plays every pair.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator.kinds import kinds
from tests.matrix.access import Entry
from tests.matrix.play import play
from tests.matrix.table import ENTRIES, PAIRS, RING

POINTS = 500
"""Four times as many would double the minute that a machine takes which does nothing else."""


@pytest.mark.parametrize(("one", "other"), RING)
async def test_a_pair_of_stores(
    request: pytest.FixtureRequest, tmp_path: Path, one: str, other: str
) -> None:
    def at(kind: str) -> tuple[Entry, str]:
        entry = ENTRIES[kind]
        return entry, request.getfixturevalue(entry.fixture) if entry.fixture else ""

    told = await play(tmp_path, at(one), at(other), points=POINTS)
    assert told["starts"] == 2, "it was killed, and went on"


def test_every_kind_of_store_is_in_the_table() -> None:
    assert set(ENTRIES) == {
        kind.name for kind in kinds().values() if kind.package == "replicator"
    }


def test_the_table_says_of_a_kind_what_its_traits_say() -> None:
    """The oracle is told apart from them; that both say the same is this test's business."""
    for name, entry in ENTRIES.items():
        traits = kinds()[name].traits
        assert entry.nested == traits.payload.nested, name
        assert {each.value for each in entry.accepts} == {
            _SPELLED[str(each.name)] for each in traits.ids.kinds
        }, name


_SPELLED = {"UINT64": "integer", "UUID": "uuid", "STRING": "text"}


def test_the_ring_takes_each_kind_once_either_way() -> None:
    assert sorted(source for source, _ in RING) == sorted(ENTRIES)
    assert sorted(target for _, target in RING) == sorted(ENTRIES)
    assert len(PAIRS) == len(ENTRIES) ** 2
