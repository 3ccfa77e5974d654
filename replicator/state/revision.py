"""
The revision of a record: that nobody else writes this state.

The lock beside a state keeps two processes apart on one machine. It cannot where the file is
copied, lies on a file system that ignores locks, or is restored under a running daemon. So the
record counts its changes, every save names the revision that follows the one it was made from,
and every other write looks whether the record kept is still one that its process has seen.
Revisions only grow; whoever finds another one was overtaken, and stops.
"""

from __future__ import annotations

from replicator.errors import Fatal

CODE = "state-conflict"


class Revision:
    """The newest revision that one process has seen, or has tried to save."""

    def __init__(self, kept: int) -> None:
        """`kept`: as the state was opened; 0 where it holds no record."""
        self._newest = kept

    def save(self, revision: int, kept: int) -> None:
        """May a record of this revision replace the one that is kept? Raises Fatal."""
        if revision != kept + 1:
            raise Fatal(
                CODE,
                f"the record is at revision {kept}, and what was to replace it was made from "
                f"revision {revision - 1}",
            )
        # Before it is durable: a save that was cut off may have landed, and is ours then.
        self._newest = revision

    def write(self, kept: int) -> None:
        """May this process write beside the record that is kept? Raises Fatal."""
        if kept > self._newest:
            raise Fatal(
                CODE,
                f"another process has brought the record to revision {kept}, and this one "
                f"knows revision {self._newest}",
            )
