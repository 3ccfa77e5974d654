"""
How a source point becomes a target point, and a patch the same patch there.

One is pure: renames, casts, filters (`stream.transform`). One that is not, such as embedding
anew, asks somebody else, costs time and money, and may be refused.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Protocol

import msgspec

from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key
from replicator.model.filter import Filter
from replicator.model.point import Payload, Point, PointId
from replicator.model.write import Write


class Row(msgspec.Struct, frozen=True):
    """The image of a key as the source holds it; None where it holds none."""

    key: Key
    point: Point | None


Item = ChangeEvent | Row


class Passing(Protocol):
    """Which of the source's points a transform carries."""

    @property
    def tree(self) -> Filter:
        """What a reading of the source may be narrowed by."""
        ...

    @property
    def fields(self) -> Set[str]:
        """Top-level payload fields that decide: a patch that touches none changes nothing."""
        ...

    def matches(self, point_id: PointId, payload: Payload) -> bool:
        """Whether the point is carried."""
        ...


class Transform(Protocol):
    """
    The transform of one collection in one direction. Called through `stream.route.Route`, from
    one event loop, several calls at once, never for a key whose earlier write is under way.

    **What is durable is only what was written.** A call may end at any await and leave nothing:
    the process dies, or the lease is revoked under which it was called (`Lease.while_held`
    cancels it). Its items come again, in other batches and other company, so that the answer
    to one may depend on nothing but itself. An impure transform keeps no state that a restart
    would miss, and repeats at worst what it had paid for.

    **A key's place is pure.** `target_id`, `candidates`, `stray`, `target_vector` and
    `needs_image` ask nobody, cost nothing and answer the same for ever.

    **A patch must be portable.** With T the transform, p a patch and x any image that T
    carries: T(p applied to x) = T(p) applied to T(x). Of a patch that this cannot be done for
    (it touches the text of which a vector is made, or what a filter reads) `needs_image` is
    true; then it waits until the source shows it, and the source's image comes as a Row.

    **Comparing asks again.** Verification and the last comparison of a cutover transform the
    source's rows a second time, and call a difference what is not alike. An answer that is not
    reproducible within the tolerance of comparing is a finding.
    """

    @property
    def pure(self) -> bool:
        """`writes` asks nobody and never waits."""
        ...

    @property
    def filter(self) -> Passing | None:
        """Which points are carried; None where all are."""
        ...

    @property
    def lossy(self) -> list[str]:
        """Why the way back loses, one sentence for each reason; empty if it does not."""
        ...

    def target_id(self, key: Key) -> PointId:
        """The id at the target. Raises Rejected("id-invalid")."""
        ...

    def candidates(self, target_id: PointId, payload: Payload) -> list[PointId]:
        """Every source id that leads to this target id, the likeliest first."""
        ...

    def stray(self, target_id: PointId) -> PointId:
        """
        What a point of the target is called, as an id of the source, that no source id leads
        to. The Row of a key of that id, which the source does not hold, is the point's Delete.
        """
        ...

    def target_vector(self, name: str) -> str | None:
        """What the source's vector is called at the target; None if it does not travel."""
        ...

    def needs_image(self, event: ChangeEvent) -> bool:
        """Whether only the source's image can tell what the event does to the target."""
        ...

    async def writes(self, items: Sequence[Item]) -> list[Write | Rejected]:
        """
        What each item becomes at the target, in their order: the write, or why it cannot be
        carried. One that is refused hides no other. What is absent at the source, or excluded
        by a filter, is a Delete. Patches that need an image are not given.

        As many as make a batch come at once, so that a remote transform can ask for them in one
        request; it cuts them to what its peer takes. Of a peer that is away, or throttles, it
        waits out what is Retryable itself, with the patience that it was made with, so that the
        wait is seen. Anything else that it raises ends the work of its caller.
        """
        ...
