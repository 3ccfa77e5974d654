"""The whole configuration as one frozen tree. Reading the file is in `settings.load`."""

from __future__ import annotations

import msgspec

from replicator.settings.cutover import CutoverSettings, HooksSettings
from replicator.settings.feeds import FeedSettings
from replicator.settings.patterns import Pattern
from replicator.settings.stores import StoreSettings
from replicator.settings.transform import CollectionSettings
from replicator.settings.units import Duration, Secret, Size


class StateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the truth is kept."""

    path: str = "var/replicator.db"
    """SQLite file with positions, journal, findings and the index of dead letters."""


class HttpServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The daemon's own HTTP."""

    listen: str = "127.0.0.1:8080"
    """`host:port`; port 0 takes a free one."""
    token: Secret = Secret("")
    """Control calls need it, unless bound to loopback without one."""


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The data path."""

    batch_records: int = 128
    """Points in one write. Half of it costs a round trip more; twice it gains little and delays
    every event."""
    batch_bytes: Size = Size(4 << 20)
    """Bytes in one write, about."""
    linger: Duration = Duration(0.01)
    """How long an event waits for company before a batch that is not full is written."""
    in_flight_max: int = 8
    """Writes under way at once; the limit in force adapts below it."""
    buffer_records: int = 50_000
    """Records held in memory over all partitions; reading stops above it."""
    buffer_bytes: Size = Size(64 << 20)
    """Bytes held in memory over all partitions; reading stops above it."""
    commit_interval: Duration = Duration(1)
    """How often positions are persisted and published."""
    version_window: int = 100_000
    """Keys whose newest applied version is remembered, to discard events that arrive late."""
    backoff_min: Duration = Duration(0.1)
    """First wait after a failure that can be tried again."""
    backoff_max: Duration = Duration(30)
    """Longest wait between tries."""
    drain_timeout: Duration = Duration(20)
    """How long a shutdown waits for the writes in flight."""


class BackfillSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The copy."""

    readers: int = 2
    """Chunks read at once."""
    chunks: int = 16
    """Chunks per collection, about. A resumed copy repeats at most one page of each chunk under
    way."""
    page_rows: int = 256
    """Rows of one read, and of one write, at most: `memory.budget` bounds their bytes."""
    rate_max: float = 0.0
    """Rows a second over all readers; 0 is unlimited."""


class MemorySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What bulk work may hold. The stream has its own bound, `stream.buffer_bytes`."""

    budget: Size = Size(64 << 20)
    """Bytes of points that a copy or a comparison holds at once, over all its readers, about.
    Pages of large points have fewer rows. Half of it costs round trips where points are large;
    twice it gains nothing where they are small."""

    def page_bytes(self, readers: int) -> int:
        """
        What one page may hold. It exists about four times while it is carried: the reply, its
        points, the request, and what is being sent of it.
        """
        return max(1, int(self.budget) // (4 * readers))


class VerifySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Verification."""

    page_rows: int = 256
    """Keys compared at once, at most: `memory.budget` bounds their bytes."""
    sample: int = 1000
    """Keys compared at level `sample`."""
    suspects_max: int = 10_000
    """Differing keys held in memory until they are cleared or become findings; comparing waits
    above it."""
    float_tolerance: float = 1e-6
    """Largest difference of a vector component, relative to the vector's largest component (at
    least 1)."""
    payload_tolerance: float = 1e-9
    """Largest relative difference of a payload float."""
    rate_max: float = 0.0
    """Keys a second; 0 is unlimited."""
    interval: Duration = Duration(0)
    """Start a full generation by itself this long after the last one; 0 never does."""
    queries: int = 50
    """Stored points used as queries to compare the search quality of both stores; 0 compares
    none."""
    search_limit: int = 10
    """The k of recall@k."""
    recall_min: float = 0.95
    """The gate closes where the recall of a collection certainly lies below it (the upper end
    of its 95% interval), and `verify` exits with 1."""


class LogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The daemon's log."""

    level: str = "info"
    """debug, info, warning or error."""
    format: str = "auto"
    """json, console, or auto: console on a terminal."""
    interval: Duration = Duration(30)
    """How often the one-line status is logged."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the configuration file says."""

    name: str
    """Names the migration, its state and its metrics."""
    source: StoreSettings
    """The store to leave."""
    target: StoreSettings
    """The store to reach."""
    collections: list[CollectionSettings]
    """What travels."""
    feed: FeedSettings
    """Where change events come from."""
    state: StateSettings = StateSettings()
    http: HttpServerSettings = HttpServerSettings()
    stream: StreamSettings = StreamSettings()
    backfill: BackfillSettings = BackfillSettings()
    memory: MemorySettings = MemorySettings()
    verify: VerifySettings = VerifySettings()
    cutover: CutoverSettings = CutoverSettings()
    hooks: HooksSettings = HooksSettings()
    log: LogSettings = LogSettings()

    @property
    def targets(self) -> list[str]:
        """The target's collections, each once: several tables may lead to one."""
        return list(dict.fromkeys(collection.target for collection in self.collections))

    @property
    def has_patterns(self) -> bool:
        """Whether only the source can tell which collections travel."""
        return any(isinstance(each.source, Pattern) for each in self.collections)
