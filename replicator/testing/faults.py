"""
What goes wrong, and how often: drawn from a seed, and counted.

The fakes ask `strikes` at the places where the world can fail. A fault that fired is counted,
so that a suite can show what it has met and fail on what it never met.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum
from random import Random


class Fault(Enum):
    """Every way in which the fakes, and the world of the simulation, misbehave."""

    # stores
    SLOW = "slow"
    """A request takes as long as a client would still wait."""
    THROTTLED = "throttled"
    """Too many requests; nothing was written."""
    UNAVAILABLE = "unavailable"
    """The store does not answer; nothing was written."""
    REPLY_LOST = "reply-lost"
    """The write is applied, its reply is lost."""
    LATE_WRITE = "late-write"
    """The reply is lost, and the write lands later, within the late-write bound."""
    NEVER_ARRIVED = "never-arrived"
    """The reply is lost, and so is the write."""
    ACKNOWLEDGED = "acknowledged"
    """The store says that it will apply the write, and has not done so yet."""
    PARTIAL = "partial"
    """Some writes of a batch are applied, the reply is lost, the others land late or never."""
    BATCH_REJECTED = "batch-rejected"
    """A whole batch is refused because of one point in it."""
    POINT_REJECTED = "point-rejected"
    """One point of a batch is refused, by name."""
    STALE_READ = "stale-read"
    """A read shows a key as it was a while ago, within the staleness bound."""
    STORE_OUTAGE = "store-outage"
    """A store is away for a long time."""
    # feed
    BROKER_AWAY = "broker-away"
    """One request to the broker fails."""
    BROKER_OUTAGE = "broker-outage"
    """The broker is away for a long time."""
    DUPLICATE = "duplicate"
    """A producer's retry writes a record twice."""
    GAP = "gap"
    """A control record takes an offset."""
    TRANSACTION = "transaction"
    """Records lie in an open transaction for a while."""
    SHORT_POLL = "short-poll"
    """A poll returns fewer records than there are."""
    FOREIGN_COMMIT = "foreign-commit"
    """Somebody else commits to our group."""
    TRUNCATED = "truncated"
    """The log no longer holds our position."""
    PARTITIONS_GROWN = "partitions-grown"
    """The topic gets more partitions."""
    GLITCH = "glitch"
    """For a while the broker answers for another topic."""
    LOG_REPLACED = "log-replaced"
    """The log is deleted and made anew under its name."""
    LETTERS_AWAY = "letters-away"
    """Dead letters cannot be written."""
    # process
    CRASH = "crash"
    """The process dies between any two steps."""
    LOST_STATE = "lost-state"
    """The state store is gone."""
    STATE_RESTORED = "state-restored"
    """The state store is as it was a while ago."""
    SECOND_DAEMON = "second-daemon"
    """Another process works on a copy of the state."""
    # application, fence and switch
    POISON = "poison"
    """A producer emits what cannot be carried."""
    MISPLACED = "misplaced"
    """A producer writes to another partition than the key's."""
    NAN_ROW = "nan-row"
    """The source holds a vector that is not a number."""
    FENCE_REFUSED = "fence-refused"
    """The fence does not close, or only in part."""
    FENCE_ACK_LOST = "fence-ack-lost"
    """The fence closes, and nobody hears of it."""
    FENCE_IGNORED = "fence-ignored"
    """A writer goes on behind the closed fence."""
    FENCE_AWAY = "fence-away"
    """The fence does not answer for long while traffic moves, and opens by itself meanwhile."""
    SWITCH_REPLY_LOST = "switch-reply-lost"
    """Traffic is switched, and the reply is lost."""
    SWITCH_FAILED = "switch-failed"
    """Traffic is not switched, and says so or not."""
    SWITCH_UNREADABLE = "switch-unreadable"
    """Nobody can say where traffic goes."""
    SWITCH_SLOW = "switch-slow"
    """Traffic is switched long after it was asked for."""
    HOOK_FAILED = "hook-failed"
    """A hook at a step of the cutover fails."""
    LATER_EPOCH = "later-epoch"
    """Somebody else gives the route another epoch, and leaves traffic where it is."""
    LATE_BATCH = "late-batch"
    """A write admitted before the switch lands after it, on the store left behind."""
    OLD_VERSION = "old-version"
    """A record arrives again after newer ones of its key."""


class Faults:
    """
    Decide, from a seed, what fails now.

    `rates` is the probability of each fault where it could strike; a fault that is not named
    never does. `latency_s` is the range of an ordinary request's one-way time.
    """

    def __init__(
        self,
        random: Random | None = None,
        rates: Mapping[Fault, float] | None = None,
        *,
        latency_s: tuple[float, float] = (0.0, 0.0),
        on_fire: Callable[[Fault], None] | None = None,
    ) -> None:
        self.random = random or Random(0)  # noqa: S311 - a simulation, not a secret
        self.fired: Counter[Fault] = Counter()
        self._rates = dict(rates or {})
        self._latency_s = latency_s
        self._on_fire = on_fire

    def strikes(self, fault: Fault) -> bool:
        """Whether this fault happens here and now. Counted if so."""
        rate = self._rates.get(fault)
        if not rate or self.random.random() >= rate:
            return False
        self.fire(fault)
        return True

    def fire(self, fault: Fault) -> None:
        """Count a fault that was decided elsewhere."""
        self.fired[fault] += 1
        if self._on_fire is not None:
            self._on_fire(fault)

    def calm(self) -> None:
        """From now on nothing fails by itself."""
        self._rates.clear()

    def spare(self, *faults: Fault) -> None:
        """From now on these do not happen."""
        for fault in faults:
            self._rates.pop(fault, None)

    def latency(self) -> float:
        """Seconds that one way of a request takes."""
        low, high = self._latency_s
        return low if low == high else low + (high - low) * self.random.random()

    def within(self, bound_s: float) -> float:
        """
        Seconds between 0 and the bound, both ends likelier than the middle: what breaks does so
        at once or at the last moment.
        """
        draw = self.random.random()
        if draw < 0.2:
            return 0.0
        if draw > 0.8:
            return bound_s * 0.999
        return bound_s * self.random.random()
