"""
Cutting the ids that there can be by what they begin with.

The service lists the ids of one prefix, in their order, and counts none. An id is ASCII. So all
that there can ever be are those that begin with each of 127 characters; and of those with one
prefix, the prefix itself and what goes on with each of 127 characters. A prefix under which
there is more than a page of ids is cut so, again and again, until enough of them are found.
What is empty at the time is kept as ranges of characters, to be listed all the same: an id may
come there later.

To look is a request for each of the 95 printable characters, and to read what is empty one for
each of 127, whatever the ids have in common at their beginning. That pays where there are many
ids, and costs more than it brings where there are few: whoever asks says how many looks are
worth it. Control characters are not looked at, but covered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence

import msgspec

from replicator.errors import Fatal

_LAST = 127
_PRINTABLE = range(32, 127)

LOOKS_MAX = 3_000
"""For one split: 17 seconds at the pace of lists. Half of it leaves ids that have thirty
characters in common in one chunk; twice it costs as many read units again."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """
    Ids that begin with `stem` and go on with a character from `low` to `high`, by its code. A
    `low` of 0 has the id in it that ends there.
    """

    stem: str
    low: int = 0
    high: int = _LAST


class Step(msgspec.Struct, frozen=True):
    """What is asked at once: the ids of a prefix, or one id."""

    prefix: str
    alone: bool = False


class Seen(msgspec.Struct, frozen=True):
    """The first page of a prefix: how many ids, and whether there are more."""

    ids: int
    more: bool


Look = Callable[[Sequence[str]], Awaitable[list[Seen]]]
"""What there is under each of some prefixes."""


async def split(parts: int, look: Look, looks_max: int = LOOKS_MAX) -> list[list[Part]]:
    """About so many disjoint chunks of all ids that there can be; fewer, where more looks would
    be needed than are worth it.
    """
    if parts < 2 or looks_max < len(_PRINTABLE):
        return [[Part("")]]
    [root] = await look([""])
    seen: dict[str, Seen] = {"": root}
    cut: set[str] = set()
    waiting = deque([""] if root.more else [])
    large, looks = len(waiting), 0
    while waiting and large < parts and looks + len(_PRINTABLE) <= looks_max:
        stem = waiting.popleft()
        below = [stem + chr(code) for code in _PRINTABLE]
        found = dict(zip(below, await look(below), strict=True))
        looks += len(below)
        seen |= found
        cut.add(stem)
        more = [prefix for prefix, each in found.items() if each.more]
        waiting.extend(more)
        large += len(more) - 1
    return _gathered(list(_leaves("", seen, cut)), parts)


def steps_of(parts: Sequence[Part]) -> list[Step]:
    """What to ask for, in the order of ids."""
    return [step for part in parts for step in _steps(part)]


def write_spec(parts: Sequence[Part]) -> str:
    """The spec of a chunk."""
    return msgspec.json.encode(parts).decode()


def read_spec(spec: str) -> list[Part]:
    """Raises Fatal for a text that is not ours."""
    try:
        return msgspec.json.decode(spec, type=list[Part])
    except msgspec.MsgspecError as exc:
        raise Fatal("internal", f"a chunk of another connector was read: {exc}") from exc


def _steps(part: Part) -> Iterator[Step]:
    if (part.low, part.high) == (0, _LAST):
        yield Step(part.stem)
        return
    for code in range(part.low, part.high + 1):
        if code:
            yield Step(part.stem + chr(code))
        elif part.stem:
            yield Step(part.stem, alone=True)


def _leaves(stem: str, seen: dict[str, Seen], cut: set[str]) -> Iterator[tuple[Part, int]]:
    """All under a stem in the order of ids, each with how many ids were seen of it."""
    if stem not in cut:
        yield Part(stem), seen[stem].ids
        return
    begin = 0
    for code in _PRINTABLE:
        below = stem + chr(code)
        if seen[below].ids:
            if begin < code:
                yield Part(stem, begin, code - 1), 0
            yield from _leaves(below, seen, cut)
            begin = code + 1
    yield Part(stem, begin, _LAST), 0


def _gathered(leaves: list[tuple[Part, int]], parts: int) -> list[list[Part]]:
    """Neighbours together, so that each chunk has its share of the ids that were seen."""
    share = max(1.0, sum(ids for _, ids in leaves) / parts)
    chunks: list[list[Part]] = [[]]
    held = 0
    for part, ids in leaves:
        if ids and held and held + ids / 2 > share * len(chunks):
            chunks.append([])
        chunks[-1].append(part)
        held += ids
    return chunks
