"""What a run of many seeds has met: faults, transitions between phases, stories, crashes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from replicator.model.phase import TRANSITIONS, Phase
from replicator.testing.faults import Fault


class Coverage:
    """Counters that can be added up over processes."""

    def __init__(self) -> None:
        self.seeds = 0
        self.faults: Counter[str] = Counter()
        self.transitions: Counter[str] = Counter()
        self.stories: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()

    def moved(self, before: Phase, after: Phase) -> None:
        """Count a step from phase to phase."""
        self.transitions[_name(before, after)] += 1

    def as_dict(self) -> dict[str, object]:
        """For handing over between processes."""
        return {
            "seeds": self.seeds,
            "faults": dict(self.faults),
            "transitions": dict(self.transitions),
            "stories": dict(self.stories),
            "crashes": dict(self.crashes),
        }

    def add(self, other: dict[str, object]) -> None:
        """Add what another process has met."""
        self.seeds += int(other["seeds"])  # type: ignore[call-overload]
        for name in ("faults", "transitions", "stories", "crashes"):
            getattr(self, name).update(other[name])

    def unreached(self) -> list[str]:
        """Transitions of the table that no seed has taken."""
        names = {_name(before, after) for before, after in TRANSITIONS}
        return sorted(names - self.transitions.keys())

    def unmet(self) -> list[str]:
        """Faults that no seed has met."""
        return sorted({fault.value for fault in Fault} - self.faults.keys())

    def report(self) -> str:
        """The tables that the suite prints."""
        return "\n".join(
            [
                f"simulation: {self.seeds} seeds",
                *_table("stories", self.stories),
                *_table("faults", self.faults),
                *_table("crashes", self.crashes),
                *_table("transitions", self.transitions),
                f"never met: {', '.join(self.unmet()) or 'nothing'}",
                f"never reached: {', '.join(self.unreached()) or 'nothing'}",
            ]
        )


def _name(before: Phase, after: Phase) -> str:
    return f"{before.value} → {after.value}"


def _table(title: str, counts: Counter[str]) -> Iterable[str]:
    yield f"  {title}"
    for name, count in sorted(counts.items()):
        yield f"    {count:8d}  {name}"
