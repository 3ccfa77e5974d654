"""
Where to cut a collection into chunks of about equal shares.

Milvus gives no sample of its keys that could be trusted: what a query without an order brings
are those that came first. But it counts a range of keys fast. So a bound is sought by halving
the space of keys until about the right share lies below it; what was counted for one bound
narrows the search for the others.

A text is a number for that: its characters as digits, those beside printable ASCII as the one
next to them. A bound need be no key that there is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable

from replicator.model.point import BareId

Counted = Callable[[BareId], Awaitable[int]]
"""How many keys are no greater than this one."""

_OFF = 0.1
"""Of a chunk's share, by which it may be larger or smaller. Half of it asks one question more a
bound; twice makes the last chunk the one that all wait for."""

_CHARS = 24
"""Of a bound that is a text: ids that have more than that in common at their beginning are not
cut apart."""

_FIRST, _LAST = 0x20, 0x7E
_BASE = _LAST - _FIRST + 1
_INT64 = 1 << 63


async def bounds(total: int, parts: int, *, texts: bool, counted: Counted) -> list[BareId]:
    """At most `parts` - 1 keys, ascending, that part so many into about equal shares."""
    low, high = (0, _BASE**_CHARS - 1) if texts else (-_INT64 + 1, _INT64 - 1)
    below: dict[int, int] = {low: 0, high: total}
    share = total / parts
    found: set[int] = set()
    for number in range(1, parts):
        at = await _sought(below, number * share, _OFF * share, texts=texts, counted=counted)
        if 0 < below[at] < total:
            found.add(at)
    return [_key(at, texts=texts) for at in sorted(found)]


async def _sought(
    below: dict[int, int], wanted: float, off: float, *, texts: bool, counted: Counted
) -> int:
    """The place below which about as many lie as wanted; `below` learns what is counted."""
    places = sorted(below)
    at = bisect_left(places, wanted, key=below.__getitem__)
    low, high = places[max(at - 1, 0)], places[min(at, len(places) - 1)]
    while True:
        nearest = min((low, high), key=lambda place: abs(below[place] - wanted))
        if abs(below[nearest] - wanted) <= off or high - low <= 1:
            return nearest
        middle = (low + high) // 2
        below[middle] = await counted(_key(middle, texts=texts))
        if below[middle] < wanted:
            low = middle
        else:
            high = middle


def _key(place: int, *, texts: bool) -> BareId:
    if not texts:
        return place
    chars = []
    for _ in range(_CHARS):
        place, digit = divmod(place, _BASE)
        chars.append(chr(_FIRST + digit))
    return "".join(reversed(chars))
