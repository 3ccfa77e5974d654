"""How many rows a read asks for, so that it brings no more bytes than it may."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from replicator.model.pages import FIRST_ROWS, PageSize, size_of
from replicator.model.point import MultiVector, Point, SparseVector, Vector

MB = 1 << 20


def pages(size: PageSize, wanted: int, rows: Sequence[int]) -> list[int]:
    """The bytes of each page of a scan over rows of these sizes."""
    found, begin = [], 0
    while begin < len(rows):
        page = rows[begin : begin + size.rows(wanted)]
        size.saw(len(page), sum(page))
        found.append(sum(page))
        begin += len(page)
    return found


def test_the_first_page_is_small_because_nobody_knows_the_rows() -> None:
    assert PageSize(8 * MB).rows(256) == FIRST_ROWS
    assert PageSize(8 * MB).rows(3) == 3


def test_small_rows_soon_come_as_many_at_once_as_were_wanted() -> None:
    assert len(pages(PageSize(8 * MB), 256, [6000] * 2560)) <= 13


def test_a_page_that_was_too_large_shrinks_the_next_at_once() -> None:
    size = PageSize(8 * MB)
    pages(size, 256, [1000] * 2000)
    first, second, *_ = pages(size, 256, [MB] * 300)
    assert first > 8 * MB  # it could not be known
    assert second <= 8 * MB


def test_a_row_larger_than_a_page_comes_alone() -> None:
    assert pages(PageSize(8 * MB), 256, [20 * MB] * 20)[1:] == [20 * MB] * 12


def test_one_page_of_large_rows_is_forgotten_after_many_of_small_ones() -> None:
    size = PageSize(8 * MB)
    size.saw(8, 8 * MB)
    for _ in range(120):
        size.saw(size.rows(256), 1000 * size.rows(256))
    assert size.rows(256) == 256


def test_a_reply_that_could_not_be_taken_in_is_asked_for_in_halves() -> None:
    size = PageSize(8 * MB)
    for rows in (8, 4, 2, 1):
        assert size.rows(256) == rows
        size.was_too_large(rows)
    assert size.rows(256) == 1


def test_a_stores_own_limit_is_kept() -> None:
    size = PageSize(8 * MB)
    size.rows_max = 5
    assert size.rows(256) == 5


@given(st.lists(st.integers(0, 4 * MB), max_size=200), st.integers(1, 300))
def test_every_row_is_read_and_pages_never_stop(rows: list[int], wanted: int) -> None:
    assert sum(pages(PageSize(8 * MB), wanted, rows)) == sum(rows)


@given(st.integers(1, 2 * MB), st.integers(1, 256))
def test_pages_of_equal_rows_stay_within_the_bound(row: int, wanted: int) -> None:
    found = pages(PageSize(8 * MB), wanted, [row] * 300)
    assert all(page <= max(8 * MB, row) for page in found[1:])


def test_the_size_of_a_point_counts_all_it_holds() -> None:
    vectors: dict[str, Vector] = {
        "a": b"x" * 400,
        "s": SparseVector(b"i" * 40, b"v" * 40),
        "m": MultiVector(2, b"x" * 800),
    }
    assert 1280 + 1000 <= size_of(Point(1, vectors, {"t": "y" * 1000})) < 1280 + 1100
    assert size_of(Point(1, {}, {"t": "\ud800" * 1000})) > 1000
