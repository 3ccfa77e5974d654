"""
Narrowing: what of a filter a store can be asked for, so that it leaves out only what does not
match.

A store that decides a filter otherwise than we do must not decide: what it leaves out is never
seen again. So it is asked by those conditions alone on which both are known to agree, and the
rest of the tree is widened: a condition that is not sure counts as true where a point needs it,
and as false where it bars one. What comes back is judged by the whole filter, here.
"""

from __future__ import annotations

from collections.abc import Callable

from replicator.model.filter import Condition, Filter, Some

Sure = Callable[[Condition], Condition | None]
"""What to ask a store for in place of a condition so that it answers as we do; None where it
does not. Asked of conditions of the id and of fields."""


def at_least(wanted: Filter, sure: Sure) -> Filter | None:
    """A filter that whatever matches `wanted` matches; None where that is every point."""
    found = _at_least(wanted, sure)
    return found if isinstance(found, Filter) else None


def _at_least(condition: Condition, sure: Sure) -> Condition | None:
    """Whatever matches the condition matches this; None: everything may."""
    if not isinstance(condition, Filter):
        return sure(condition)
    must = [_at_least(each, sure) for each in condition.must]
    should = [_at_least(each, sure) for each in condition.should]
    must_not = [_at_most(each, sure) for each in condition.must_not]
    made = Filter(
        must=_known(must),
        should=() if None in should else _known(should),
        must_not=_known(must_not),
        some=None if condition.some is None else _some_at_least(condition.some, sure),
    )
    return None if made == Filter() else made


def _some_at_least(some: Some, sure: Sure) -> Some | None:
    conditions = [_at_least(each, sure) for each in some.conditions]
    known = _known(conditions)
    least = some.least - (len(conditions) - len(known))
    return Some(known, least) if least > 0 else None


def _at_most(condition: Condition, sure: Sure) -> Condition | None:
    """Whatever matches this matches the condition; None: nothing may."""
    if not isinstance(condition, Filter):
        return sure(condition)
    must = [_at_most(each, sure) for each in condition.must]
    should = [_at_most(each, sure) for each in condition.should]
    must_not = [_at_least(each, sure) for each in condition.must_not]
    some = condition.some
    possible = [_at_most(each, sure) for each in some.conditions] if some is not None else []
    if (
        None in must
        or None in must_not
        or (should and not _known(should))
        or (some is not None and len(_known(possible)) < some.least)
    ):
        return None
    made = Filter(
        must=_known(must),
        should=_known(should),
        must_not=_known(must_not),
        some=None if some is None or not some.least else Some(_known(possible), some.least),
    )
    # What an empty filter within a filter matches, stores do not agree on.
    return None if made == Filter() else made


def _known(conditions: list[Condition | None]) -> tuple[Condition, ...]:
    return tuple(each for each in conditions if each is not None)
