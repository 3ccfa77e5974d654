"""
Every error, grouped by what recovers it.

ReplicatorError ├── Retryable            nothing was written: try again, after `retry_after_s`
if the peer named it │   ├── Unavailable      the peer does not answer: wait with backoff (exit
3 when starting) │   └── OutcomeUnknown   the write may have landed or may still land: wait out
the late-write bound ├── Rejected             this record only: to the dead letters, and the
stream goes on ├── Refused              configuration, preflight or a closed gate: exit 2 ├──
Blocked              going on would lose data: phase BLOCKED, the process stays up and says so
├── OwnershipUnknown     nobody knows which store the application writes: phase HELD, a person
decides └── Fatal                a defect, or an environment that cannot be trusted: exit 1

Each error carries a stable code. `CODES` says, for each, what to do about it; the documentation
is tested against that table, and an error with a code outside it cannot be made.
"""

from __future__ import annotations

from enum import Enum

from replicator.losses import CONVERSIONS, LOSSES

CODES: dict[str, str] = {
    # configuration and preflight
    "config-missing": "Create the file with `replicator init`, or name one with --config.",
    "kind-broken": "Mend or remove the package that brings this kind of store.",
    "config-exists": "Name another file with --output, or remove this one first.",
    "config-syntax": "Mend the TOML at the line named.",
    "config-unknown-key": (
        "Remove the key or use the nearest one named; config/reference.toml lists all."
    ),
    "config-invalid": (
        "Change the value at the path named; config/reference.toml gives its unit."
    ),
    "config-env": "Set the environment variable, or give a default with ${NAME:-default}.",
    "state-locked": (
        "Another daemon runs on this state file; stop it first, or point at its own file."
    ),
    "state-conflict": (
        "Another process changed this state while this one worked on it: let one of them run, "
        "on a file system that keeps locks."
    ),
    "state-version": "The state file was written by a newer release; run that release.",
    "state-missing": "No migration is in this state file yet; start one with `replicator run`.",
    "state-failed": (
        "The state file cannot be read or written; mend the disk, its space or permissions, "
        "then start again."
    ),
    "plan-changed": (
        "The configuration no longer matches the migration under way; put it back, or abort"
        " and start anew."
    ),
    "phase-refused": (
        "The migration is in a phase that does not allow this; see `replicator status`."
    ),
    "gate-closed": "Resolve the blockers that `replicator cutover --dry-run` prints.",
    "target-not-empty": (
        "The target holds points of unknown origin: empty it, or pass --wipe-target NAME."
    ),
    "target-incompatible": (
        "Change the target collection or the transform until dimensions and distances agree."
    ),
    "target-is-source": (
        "Source and target are one collection, by its name or an alias; name another target."
    ),
    "target-shared": (
        'Give several sources one target only where each table says `ids = "mapped"` and all'
        " ask for the same collection: say what differs in `target_options` of each, or name"
        " another target."
    ),
    "aliases-stay": (
        "Aliases do not travel: move them with the switch `qdrant-alias`, or make them at the"
        " target before the application is sent there."
    ),
    "source-missing": (
        "The source collection does not exist; check its name and the credentials."
    ),
    "collections-unmatched": (
        "Mend the pattern, or see what the source lists to these credentials: with a typing "
        "error everything would stay behind."
    ),
    "collections-taken": "Nothing: this is what the patterns of [[collections]] take.",
    "collection-left-out": (
        "It came after the migration had begun, and stays behind. Before the source is given "
        "up, move it by a migration of its own that names it; or abort, and start anew."
    ),
    "target-missing": "Create the target collection, or let the replicator create it.",
    "scopes-unset": (
        "Set `scopes` on the collection, and have every writer put the scope into its events."
    ),
    "scopes-absent": "Remove `scopes` from the collection.",
    "id-collision": (
        "Two source keys give one target id; change `ids` or the data, then run check again."
    ),
    "transform-invalid": "Mend the transform at the path named.",
    "embedding-mismatch": (
        "Make the vectors anew with `transform.embed`, or mend the embedding contract: queries "
        "of one model find nothing among vectors of another."
    ),
    "embedder-broken": (
        "Mend the function that `transform.embed` names, or its settings: it cannot be loaded, "
        "or answers other vectors than `size` says."
    ),
    "embedder-away": (
        "The function of `transform.embed` raised; it is asked again until it answers. See its "
        "message, its network and its credentials."
    ),
    "embedding-cache": (
        "The file of vectors made already, beside the state, cannot be read or written; see "
        "its folder, the disk's space and permissions."
    ),
    "embedding-rate": "Nothing: the model is asked at the pace of `rate_max`.",
    "not-invertible": (
        "This mapping cannot be run backwards; repair works in the forward direction only."
    ),
    "unauthorised": "Send the token of [http] as `Authorization: Bearer …`.",
    "bad-request": "Mend the request as the message says.",
    "not-found": "List what exists first, then name one of those.",
    "listen-failed": "Give http.listen an address of this machine that no other program holds.",
    "daemon-unavailable": (
        "The daemon does not answer; see whether it runs, then ask `replicator status`."
    ),
    "cancelled": "A person cancelled it; start it again when it suits.",
    "daemon-needed": "Start the daemon with `replicator run`, then give the command again.",
    "extra-missing": "Install the extra that the message names.",
    # log and feed
    "topic-missing": "Create the topic, or correct feed.topic.",
    "log-truncated": (
        "The log no longer holds our position; abort, wipe the target and start a new capture."
    ),
    "log-replaced": (
        "The log is not the one whose positions are persisted. Bring the right one back, then "
        "`replicator resume`; after a deliberate move of it, `replicator acknowledge "
        "log-replaced` and verify in full."
    ),
    "partitions-changed": "The topic's partition count changed; abort and start a new capture.",
    "log-compacted": (
        "The topic is compacted; use cleanup.policy=delete, or declare the feed free of "
        "patches."
    ),
    "patch-on-compacted": (
        "The compacted topic was declared free of patches, and one came: use "
        "cleanup.policy=delete, abort, and start a new capture."
    ),
    "retention-short": "Raise retention.ms above the estimated copy time, or narrow the copy.",
    "partitioner-unchecked": (
        "Name the producers' partitioner in feed.partitioner, so that misplaced keys show."
    ),
    "message-too-large": (
        "Raise max.message.bytes of the topic and feed.event_bytes_max together."
    ),
    "settle-short": (
        "Raise feed.settle above the source's visibility delay plus the time from change to "
        "event."
    ),
    "group-foreign": (
        "Another program commits to, or is a member of, our consumer group; give it another."
    ),
    "transaction-open": "A producer holds a transaction open; wait for it or abort it.",
    "feed-unavailable": (
        "The broker does not answer; check bootstrap_servers, network and credentials."
    ),
    "feed-stuck": (
        "The consumer is alive without progress; the process ends so that it is restarted."
    ),
    # stores
    "source-unavailable": "The source does not answer; check its url, network and credentials.",
    "target-unavailable": "The target does not answer; check its url, network and credentials.",
    "store-unavailable": "A store does not answer; check its url, network and credentials.",
    "store-throttled": "The store asks for a slower pace; it is given, and tried again.",
    "outcome-unknown": (
        "The reply to a write was lost; it is repeated after the late-write bound."
    ),
    "permission-denied": "Give the credentials the permission that the message names.",
    "quota-exceeded": (
        "What is paid for is used up, or does not allow for this: raise the plan or the limit "
        "that the message names, at the vendor's, or wait for the next month."
    ),
    "store-refused": (
        "The store refuses the request as a whole, whatever the records in it: change the "
        "limit or setting that the message names, at that store."
    ),
    "store-bug": (
        "The store answered what its protocol does not allow; report it with the message."
    ),
    "file-damaged": (
        "Bring the file that the message names back from a copy, or make the export anew."
    ),
    "unsupported": "The store cannot do this; the message says what can be done instead.",
    # events and rows, in the dead letters
    "key-missing": "Produce every record with the key `<collection>/<id>`.",
    "key-invalid": "Produce the key as `<collection>/<id>`, both percent-encoded.",
    "scope-missing": (
        "Write `<collection>/<scope>/<id>` as the key, and `scope` in the value; then retry the"
        " record."
    ),
    "scope-unexpected": (
        "Leave the scope out of key and value, or set `scopes` on the collection."
    ),
    "key-mismatch": "Make the record's key and the value's collection and id agree.",
    "value-malformed": "Produce a MessagePack or JSON map as the event contract says.",
    "value-too-large": (
        "Make the record smaller, or raise the limit that the message names: the store's, "
        "or feed.event_bytes_max."
    ),
    "field-missing": "Add the field at the path named.",
    "field-type": "Give the field at the path the type that the contract says.",
    "field-unknown": "Use the nearest field that the message names, or leave it out.",
    "field-invalid": "Give the field at the path a value that the contract allows.",
    "table-truncated": (
        "Verify in full and repair, which removes from the target what the table no longer "
        "holds; then discard the letter."
    ),
    "row-incomplete": (
        "Let the database tell whole rows (PostgreSQL: ALTER TABLE … REPLICA IDENTITY FULL); "
        "repair heals the key."
    ),
    "vector-dimension": "Emit vectors of the dimension that the collection has.",
    "vector-unknown": (
        "Emit only vectors that the collection has, or map the name in the transform."
    ),
    "vector-missing": "Emit every vector that the collection demands.",
    "vector-zero": (
        "Emit vectors with a component other than zero, or leave the point out by a filter: the"
        " target cannot hold it."
    ),
    "vector-not-finite": "Emit vectors without NaN or Infinity.",
    "payload-not-finite": "Emit payloads without NaN or Infinity.",
    "id-invalid": "Emit ids that the source and target can hold, or set `ids`.",
    "source-written": (
        "Somebody writes the source during a plain copy: stop the writers, or configure a "
        "feed, and run the same command again."
    ),
    "rows-left": (
        "List them with `replicator dead-letters list` (of an import: `--import DIRECTORY`), "
        "mend them, and run the same command again."
    ),
    "filter-differs": (
        "The store's own filter may decide otherwise than ours there; look at what the message "
        "names before you compare counts or searches."
    ),
    "text-missing": (
        "Give the point a text in one of the fields of `transform.embed`, or set its `missing` "
        'to "omit".'
    ),
    "text-refused": (
        "The function of `transform.embed` raised ValueError for this text: shorten or mend it,"
        " or the function; then retry the letter."
    ),
    "transform-failed": "Mend the value or the transform at the path named.",
    "target-rejected": "The target refuses this point; the message is the target's own.",
    "epoch-stale": (
        "A writer that passed the fence late wrote to the store left behind; compare both "
        "by hand."
    ),
    # ownership and defects
    "ownership-unknown": (
        "Find out which store the application writes, then `replicator own source|target`."
    ),
    "epoch-denied": (
        "A writer stamps an epoch that the switch does not know; find out where it got it, "
        "then retry or discard the letter."
    ),
    "epoch-ahead": (
        "Traffic was moved without this daemon. Find out which store the application writes, "
        "then `replicator own source|target`."
    ),
    "mark-newer": (
        "Another daemon works on this migration, or this state is older than the target. Stop "
        "the other one, or restore the right state; if this one is right, "
        "`replicator acknowledge mark-newer`."
    ),
    "switch-at-target": (
        "Send the traffic to the source before a new migration begins, or exchange source and "
        "target."
    ),
    "mark-lost": (
        "The target collection was wiped, restored or replaced: abort, then start a new copy."
    ),
    "alias-moved": (
        "A configured name now stands for another collection; move the alias back, or abort."
    ),
    "late-writes": "Nothing: writes go on once what was sent before can no longer land.",
    "stale-reads": "Nothing: patches go on once the store shows what was written before them.",
    "route-asked": (
        "Nothing: the switch is asked where it points, and in which epoch; bring it back if it "
        "is away."
    ),
    "settle": "Nothing: the copy begins once every change before the capture is readable.",
    "fence-failed": (
        "The writer fence did not close or acknowledge; see its message, then try again."
    ),
    "fence-held": (
        "The writer fence is closed for another attempt than this one: see which daemon made "
        "it. The fence opens at its deadline, or by whoever made that attempt."
    ),
    "fence-lapsed": (
        "The fence's deadline passed during the attempt; give it a longer --timeout, then try "
        "again."
    ),
    "fence-ignored": "A writer went on after the fence had closed; stop it, then try again.",
    "switch-failed": "The traffic switch failed; see its message and `replicator status`.",
    "hook-failed": "The hook's command or URL failed; mend it, then try again.",
    "cutover-timeout": (
        "The attempt ran over its time; the fence is open again. See which step was slow."
    ),
    "recheck-mismatch": (
        "The last comparison found differences that repair did not mend; verify, then try "
        "again."
    ),
    "declined": "The question was answered with no; nothing was changed.",
    "dead-letters-unavailable": (
        "Dead letters cannot be written; the stream waits until they can."
    ),
    "draining-timeout": (
        "The stream did not drain in time; what was in flight is repeated at the next start."
    ),
    "failpoint": "A failpoint was reached on purpose; unset REPLICATOR_FAILPOINTS.",
    "internal": "A defect in the replicator; report it with the log.",
    # settings of a collection that do not reach the target
    **LOSSES,
    **CONVERSIONS,
}


CHANGELOG_HINTS: dict[str, str] = {
    "topic-missing": (
        "Let the application make the change log (docs/changelog-format.md), or correct "
        "feed.path."
    ),
    "feed-unavailable": (
        "The change log cannot be read or written just now; check feed.path, its folder, the "
        "disk's space and permissions."
    ),
    "feed-stuck": "The reader of the change log is stuck; the process ends to be restarted.",
    "retention-short": "Prune the change log later than the estimated copy time.",
    "message-too-large": "Raise feed.event_bytes_max.",
    "dead-letters-unavailable": (
        "Dead letters cannot be written beside the change log; the stream waits until they can."
    ),
    "lag-unknown": "Make the change log readable; what is not known counts as infinite.",
}
"""Of codes whose sentence in CODES speaks of a broker: what to do where the feed is a change
log."""


def hint_of(code: str, feed: str = "") -> str:
    """What to do about a code, where the feed is of this kind; empty for an unknown code."""
    if feed == "changelog" and code in CHANGELOG_HINTS:
        return CHANGELOG_HINTS[code]
    return CODES.get(code, "")


AWAY = frozenset(
    {
        "source-unavailable",
        "target-unavailable",
        "store-unavailable",
        "store-throttled",
        "outcome-unknown",
        "feed-unavailable",
        "dead-letters-unavailable",
        "embedder-away",
        "embedding-cache",
    }
)
"""Codes of a peer that does not answer just now: waiting may mend them."""

LASTING = frozenset(
    {
        "source-missing",
        "target-missing",
        "target-incompatible",
        "permission-denied",
        "quota-exceeded",
        "unsupported",
    }
)
"""Codes that only a person mends, for those who know the code and not the error."""

_PASSING = frozenset({"group-foreign", "transaction-open"})
"""Refusals that end by themselves once somebody else goes away."""


class ReplicatorError(Exception):
    """Base of all: a stable `code`, and a sentence that says what happened."""

    def __init__(self, code: str, message: str) -> None:
        assert code in CODES, f"error code {code!r} is not declared"
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def hint(self) -> str:
        """What to do about it."""
        return CODES[self.code]

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.code, self.message))


class Retryable(ReplicatorError):
    """Nothing was written. Try again, no sooner than `retry_after_s` when it is given."""

    def __init__(self, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(code, message)
        self.retry_after_s = retry_after_s


class Unavailable(Retryable):
    """The peer does not answer, and nothing was sent or it certainly did not arrive."""


class OutcomeUnknown(Retryable):
    """A write was sent and its reply is lost: it may have landed, or may land later."""


class Rejected(ReplicatorError):
    """This record cannot be carried. `path` names the field, as in `vectors.title`."""

    def __init__(self, code: str, message: str, path: str = "") -> None:
        super().__init__(code, message)
        self.path = path


class Refused(ReplicatorError):
    """Configuration, preflight or a gate says no; nothing was changed."""


class Blocked(ReplicatorError):
    """Going on would lose data. The migration stops in BLOCKED until a person acts."""


class OwnershipUnknown(ReplicatorError):
    """Which store the application writes is not known. Never retried."""


class EpochAhead(OwnershipUnknown):
    """An event of a later epoch than any that we have heard of."""

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__("epoch-ahead", message)
        self.epoch = epoch

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.message, self.epoch))


class Fatal(ReplicatorError):
    """A defect, or an environment that cannot be trusted. The process ends."""


class Recovery(Enum):
    """What the engine does about an error."""

    RETRY = "retry"
    WAIT_OUT = "wait-out"
    DEAD_LETTER = "dead-letter"
    REFUSE = "refuse"
    BLOCK = "block"
    HOLD = "hold"
    STOP = "stop"


def recovery(error: BaseException) -> Recovery:
    """Map an error to its recovery. Exhaustive: what is not ours is a defect, and stops."""
    match error:
        case OutcomeUnknown():
            return Recovery.WAIT_OUT
        case Retryable():
            return Recovery.RETRY
        case Rejected():
            return Recovery.DEAD_LETTER
        case Refused():
            return Recovery.REFUSE
        case Blocked():
            return Recovery.BLOCK
        case OwnershipUnknown():
            return Recovery.HOLD
        case _:
            return Recovery.STOP


def is_permanent(error: BaseException) -> bool:
    """
    Whether no waiting mends it: a collection that does not exist, a wrong dimension, a missing
    permission. Whoever would wait for it, would wait for ever.
    """
    if not isinstance(error, ReplicatorError):
        return True
    return not isinstance(error, Retryable) and error.code not in AWAY | _PASSING


def exit_code(error: BaseException) -> int:
    """The process exit code that tells the truth about an error."""
    match error:
        case Refused() | OwnershipUnknown():
            return 2
        case Unavailable():
            return 3
        case _:
            return 1


def first_cause(error: BaseException) -> BaseException:
    """The error that brought a task group down: a defect before anything else, else the first
    of ours.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [first_cause(inner) for inner in error.exceptions]
    for cause in causes:
        if not isinstance(cause, ReplicatorError) or isinstance(cause, Fatal):
            return cause
    return causes[0]
