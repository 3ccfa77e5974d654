"""The SQLite change log: the embedded feed. Its table is a public contract."""

from replicator.feeds.changelog.dead_letters import ChangelogDeadLetters
from replicator.feeds.changelog.feed import ChangelogFeed
from replicator.feeds.changelog.opening import PARTITION
from replicator.feeds.changelog.writer import ChangelogEventLog, ChangelogWriter

__all__ = [
    "PARTITION",
    "ChangelogDeadLetters",
    "ChangelogEventLog",
    "ChangelogFeed",
    "ChangelogWriter",
]
