"""Intake: a record of the feed becomes an event that concerns us, or a reason why it cannot be
carried.
"""

from __future__ import annotations

from collections.abc import Mapping

from replicator.codecs.partition import expected_partition
from replicator.codecs.validation import validate_unset, validate_vectors
from replicator.errors import Blocked, EpochAhead, Rejected
from replicator.model.epoch import Epochs, Standing
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.position import Record
from replicator.ports.feed import Decoder
from replicator.stream.route import Route


class Intake:
    """Pure: decoding and validation against the source's schema and the epoch in force."""

    def __init__(
        self,
        *,
        decoder: Decoder,
        routes: Mapping[str, Route],
        epochs: Epochs,
        partitioner: str,
        patches: bool = True,
    ) -> None:
        """`patches`: False where the log is compacted and was declared free of them."""
        self._patches = patches
        self.routes = routes
        self._decoder = decoder
        self._epochs = epochs
        self._partitioner = partitioner

    def event(self, record: Record) -> ChangeEvent | Rejected | EpochAhead | None:
        """
        The event; or why it cannot be carried; or that nobody may go past it before it is known
        who moved the traffic; or None where no collection of ours is meant. Raises
        Blocked("patch-on-compacted").
        """
        try:
            event = self._decoder.decode(record)
            if event is not None:
                if (ahead := self._judge(event, record)) is not None:
                    return ahead
                self._validate(event)
        except Rejected as error:
            return error
        if event is not None and event.op is Op.PATCH and not self._patches:
            # Compaction may have removed what it builds on: its key would be left half told.
            raise Blocked(
                "patch-on-compacted",
                f"a patch came at offset {record.offset} of {record.partition}, and "
                "`feed.compacted_without_patches` says that there are none",
            )
        return event

    def _validate(self, event: ChangeEvent) -> None:
        route = self.routes[event.key.collection]
        source = route.source
        if source is not None and not source.holds(event.key.id):
            # It would be mapped to an id at the target that no source record stands behind.
            raise Rejected(
                "id-invalid",
                f"the source holds {source.ids_in_words} here, and this is none",
                "id",
            )
        if event.op is Op.UPSERT:
            validate_vectors(event.vectors, route.vectors, whole=True, known_finite=True)
            route.demand.check(event.vectors)
            if source is not None and source.null_is_absence:
                event.payload = {
                    name: value for name, value in event.payload.items() if value is not None
                }
        elif event.op is Op.PATCH:
            if event.vectors:
                validate_vectors(event.vectors, route.vectors, whole=False, known_finite=True)
            if event.unset_vectors:
                validate_unset(event.unset_vectors, route.vectors)
                route.demand.check_unset(event.unset_vectors)

    def _judge(self, event: ChangeEvent, record: Record) -> EpochAhead | None:
        """Raises Rejected when the event's epoch is not one that may be applied there."""
        standing = self._epochs.standing(event.epoch, record.partition, record.offset)
        if standing is Standing.IN_FORCE:
            return None
        who, now = event.writer or "an unnamed writer", self._epochs.current
        match standing:
            case Standing.STRAGGLER:
                raise Rejected(
                    "epoch-stale",
                    f"written in epoch {event.epoch} by {who}, after the switch to epoch {now}",
                    "epoch",
                )
            case Standing.DENIED:
                raise Rejected(
                    "epoch-denied",
                    f"written in epoch {event.epoch} by {who}; the switch knows none after "
                    f"{now}",
                    "epoch",
                )
            case _:
                assert event.epoch is not None, "an unstamped event is of the epoch in force"
                return EpochAhead(
                    f"{who} writes in epoch {event.epoch}, and the last one known is {now} "
                    f"({record.partition}, offset {record.offset})",
                    event.epoch,
                )

    def key(self, record: Record) -> Key | None:
        """The key of a record whose event could not be read; None where that cannot be read
        either.
        """
        return self._decoder.key(record)

    def peek(self, record: Record) -> ChangeEvent | Rejected | None:
        """As `event`, without a judgement on its epoch or its vectors."""
        try:
            return self._decoder.decode(record)
        except Rejected as error:
            return error

    def is_misplaced(self, record: Record, partitions: int) -> bool:
        """Whether the producers' partitioner would have put the key elsewhere: its order may be
        lost.
        """
        if record.key is None:
            return False
        expected = expected_partition(self._partitioner, record.key, partitions)
        return expected is not None and not record.partition.endswith(f"/{expected}")
