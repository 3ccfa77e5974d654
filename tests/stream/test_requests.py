"""A batch is cut into requests that a store takes, and nothing else happens to it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from replicator.model.point import Point, Vector
from replicator.model.traits import Limits
from replicator.model.write import Delete, Patch, Upsert, Write
from replicator.stream.requests import request_bytes, requests_of

WRITES = st.lists(
    st.one_of(
        st.builds(lambda size: Upsert(Point(1, {"": b"x" * size}, {})), st.integers(0, 400)),
        st.builds(lambda text: Patch(id=1, set={"t": text}), st.text(max_size=300)),
        st.just(Delete(1)),
    ),
    max_size=40,
)
LIMITS = st.builds(
    Limits,
    records_max=st.none() | st.integers(1, 10),
    bytes_max=st.none() | st.integers(1, 1000),
)


def fits(writes: tuple[Write, ...], limits: Limits) -> bool:
    """Whether they may be one request."""
    size = sum(map(request_bytes, writes))
    return (limits.records_max is None or len(writes) <= limits.records_max) and (
        limits.bytes_max is None or size <= limits.bytes_max
    )


@given(WRITES, LIMITS)
def test_nothing_is_lost_and_the_order_is_kept(writes: list[Write], limits: Limits) -> None:
    requests = list(requests_of(writes, limits))
    assert [write for request in requests for write in request] == writes
    assert all(requests)


@given(WRITES, LIMITS)
def test_no_request_is_too_large_but_of_one_record(writes: list[Write], limits: Limits) -> None:
    requests = list(requests_of(writes, limits))
    assert all(fits(request, limits) or len(request) == 1 for request in requests)
    # Nor is one cut that need not be.
    assert not any(fits((*one, other[0]), limits) for one, other in pairwise(requests))


def test_without_limits_everything_is_one_request() -> None:
    writes = [Delete(number) for number in range(9)]
    assert list(requests_of(writes, Limits())) == [tuple(writes)]
    assert list(requests_of([], Limits())) == []


def test_a_patch_weighs_what_it_sets() -> None:
    vectors: dict[str, Vector] = {"v": b"x" * 800}
    assert request_bytes(Patch(id=1, vectors=vectors, set={"t": "y" * 100})) > 900
    assert request_bytes(Patch(id=1, unset=("z" * 100,))) > 100
