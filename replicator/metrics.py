"""
Every metric, declared once. Values come from two sides: the data path observes histograms and
counts as it works; gauges are set from the status, so that what Prometheus sees and what people
see is one truth.
"""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from replicator.model.phase import Phase
from replicator.model.status import Status

_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one migration, in a registry of its own: two in one process do not
    collide.
    """

    def __init__(self, migration: str, version: str) -> None:
        self.registry = CollectorRegistry()
        self._migration = migration

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(
                f"replicator_{name}", text, ("migration", *labels), registry=self.registry
            )

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(
                f"replicator_{name}", text, ("migration", *labels), registry=self.registry
            )

        def histogram(
            name: str, text: str, buckets: tuple[float, ...], *labels: str
        ) -> Histogram:
            return Histogram(
                f"replicator_{name}",
                text,
                ("migration", *labels),
                buckets=buckets,
                registry=self.registry,
            )

        one = {"migration": migration}
        self._events_applied = counter(
            "events_applied_total", "Events durable on the store written.", "op"
        )
        self._events_rejected = counter(
            "events_rejected_total", "Records sent to the dead letters.", "code"
        )
        self._write_errors = counter(
            "write_errors_total", "Failed writes, by what recovered them.", "recovery"
        )
        self._write_seconds = histogram(
            "write_seconds", "Duration of one write.", _LATENCY, "connector"
        )
        self._write_records = histogram(
            "write_records", "Records in one write.", _SIZES, "connector"
        )
        self._read_errors = counter(
            "read_errors_total", "Failed reads of a store, by what recovered them.", "recovery"
        )
        self._read_seconds = histogram(
            "read_seconds",
            "Duration of one read; of a scan, of one page.",
            _LATENCY,
            "connector",
            "operation",
        )
        self.events_coalesced = counter(
            "events_coalesced_total",
            "Events that a later one of the same key made unnecessary.",
        ).labels(**one)
        self.events_discarded = counter(
            "events_discarded_total",
            "Events older than the newest version applied to their key.",
        ).labels(**one)
        self.events_ignored = counter(
            "events_ignored_total", "Events of collections that the migration does not list."
        ).labels(**one)
        self.patches_absent = counter(
            "patches_absent_total", "Patches of keys that do not exist; they write nothing."
        ).labels(**one)
        self.keys_misplaced = counter(
            "keys_misplaced_total", "Records in another partition than the partitioner says."
        ).labels(**one)
        self.end_to_end_latency = histogram(
            "end_to_end_latency_seconds",
            "From the application's change to durable on the store written.",
            _LATENCY,
        ).labels(**one)
        self.backfill_records = counter("backfill_records_total", "Rows copied.").labels(**one)
        self._embedded = counter(
            "embedded_texts_total",
            "Texts made vectors of, by who answered: `cache`, or the model.",
            "answered_by",
        )
        self.fence_seconds = histogram(
            "fence_seconds",
            "How long the writer fence was closed.",
            (1, 2, 5, 10, 20, 30, 60, 120, 300),
            "operation",
        )
        self._lag_records = gauge(
            "lag_records", "Unapplied records; +Inf when unknown."
        ).labels(**one)
        self._lag_seconds = gauge(
            "lag_seconds", "Age of the oldest unapplied event; +Inf when unknown."
        ).labels(**one)
        self._in_flight_records = gauge(
            "in_flight_records", "Records in writes under way."
        ).labels(**one)
        self._in_flight_bytes = gauge("in_flight_bytes", "Bytes in writes under way.").labels(
            **one
        )
        self._in_flight_limit = gauge(
            "in_flight_limit", "Writes allowed at once just now."
        ).labels(**one)
        self._buffer_bytes = gauge("buffer_bytes", "Bytes of events held in memory.").labels(
            **one
        )
        self._backfill_estimated = gauge(
            "backfill_estimated_records", "Rows expected; NaN when unknown."
        ).labels(**one)
        self._committed = gauge("committed_position", "Persisted position.", "partition")
        self._log_end = gauge("log_end_position", "Log end; NaN when unknown.", "partition")
        self._dead_letters = gauge("dead_letters", "Open dead letters.").labels(**one)
        self._mismatches = gauge("verify_mismatches", "Findings, by kind.", "kind")
        self._generation = gauge(
            "verify_generation", "Verification generations completed."
        ).labels(**one)
        self._phase = gauge("phase", "1 for the phase in force.", "phase")
        self._direction = gauge("reverse", "1 while the application is on the target.").labels(
            **one
        )
        self._can_cutover = gauge("can_cutover", "1 while the gate is open.").labels(**one)
        self._retention = gauge(
            "retention_headroom_seconds",
            "Time until the log drops what is not applied; NaN when unknown.",
        ).labels(**one)
        gauge("build_info", "Always 1.", "version").labels(**one, version=version).set(1)

    def applied(self, op: str, count: int) -> None:
        """Count applied events by operation (`upsert`, `patch`, `delete`)."""
        self._events_applied.labels(self._migration, op).inc(count)

    def rejected(self, code: str) -> None:
        """Count one record sent to the dead letters."""
        self._events_rejected.labels(self._migration, code).inc()

    def embedded(self, answered_by: str, texts: int) -> None:
        """Count texts made vectors of, by who answered (`cache`, `model`)."""
        self._embedded.labels(self._migration, answered_by).inc(texts)

    def write_failed(self, recovery: str) -> None:
        """Count one failed write."""
        self._write_errors.labels(self._migration, recovery).inc()

    def wrote(self, connector: str, seconds: float, records: int) -> None:
        """Observe one write that returned."""
        self._write_seconds.labels(self._migration, connector).observe(seconds)
        self._write_records.labels(self._migration, connector).observe(records)

    def read_failed(self, recovery: str) -> None:
        """Count one failed read."""
        self._read_errors.labels(self._migration, recovery).inc()

    def read(self, connector: str, operation: str, seconds: float) -> None:
        """Observe one read that was answered."""
        self._read_seconds.labels(self._migration, connector, operation).observe(seconds)

    def fenced(self, operation: str, seconds: float) -> None:
        """Observe how long the fence was closed."""
        self.fence_seconds.labels(self._migration, operation).observe(seconds)

    def show(self, status: Status) -> None:
        """Set the gauges from a status. Invariant 9: unknown lag is infinite."""
        self._lag_records.set(math.inf if status.lag.records is None else status.lag.records)
        self._lag_seconds.set(math.inf if status.lag.seconds is None else status.lag.seconds)
        self._in_flight_records.set(status.stream.in_flight)
        self._in_flight_bytes.set(status.stream.in_flight_bytes)
        self._in_flight_limit.set(status.stream.in_flight_limit)
        self._buffer_bytes.set(status.stream.buffer_bytes)
        self._backfill_estimated.set(_or_nan(status.backfill.estimated))
        self._dead_letters.set(status.stream.dead_letters)
        self._generation.set(status.verify.generation)
        self._can_cutover.set(status.can_cutover)
        self._direction.set(status.direction.value == "reverse")
        self._retention.set(_or_nan(status.retention.headroom_s))
        for phase in Phase:
            self._phase.labels(self._migration, phase.value).set(phase is status.phase)
        for kind in ("missing", "extra", "different"):
            self._mismatches.labels(self._migration, kind).set(getattr(status.verify, kind))
        for row in status.partitions:
            self._log_end.labels(self._migration, row.partition).set(_or_nan(row.end))
            self._committed.labels(self._migration, row.partition).set(_or_nan(row.committed))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
