"""What a run of many seeds has met: faults, transitions between phases, stories, crashes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from replicator.model.phase import TRANSITIONS, Phase
from replicator.testing.faults import Fault
from tests.simulation.cells import COMMANDS, SITUATIONS, UNTAKEN, cell, demanded


class Coverage:
    """Counters that can be added up over processes."""

    def __init__(self) -> None:
        self.seeds = 0
        self.faults: Counter[str] = Counter()
        self.transitions: Counter[str] = Counter()
        self.stories: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        self.commands: Counter[str] = Counter()
        """Cell and outcome → how often."""

    def given(self, command: str, phase: str, operation: str, outcome: str) -> None:
        """Count a command that was given, and what came of it."""
        self.commands[f"{cell(command, phase, operation)} | {outcome}"] += 1

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
            "commands": dict(self.commands),
        }

    def add(self, other: dict[str, object]) -> None:
        """Add what another process has met."""
        self.seeds += int(other["seeds"])  # type: ignore[call-overload]
        for name in ("faults", "transitions", "stories", "crashes", "commands"):
            getattr(self, name).update(other[name])

    def unreached(self) -> list[str]:
        """Transitions of the table that no seed has taken."""
        names = {
            _name(before, after)
            for before, after in TRANSITIONS
            if (before.value, after.value) not in UNTAKEN
        }
        return sorted(names - self.transitions.keys())

    def unmet(self) -> list[str]:
        """Faults that no seed has met."""
        return sorted({fault.value for fault in Fault} - self.faults.keys())

    def ungiven(self) -> list[str]:
        """Cells of the table of commands in which no command was ever answered."""
        filled = {key.rpartition(" | ")[0] for key in self.commands}
        return [name for name in demanded() if name not in filled]

    def report(self) -> str:
        """The tables that the suite prints."""
        return "\n".join(
            [
                f"simulation: {self.seeds} seeds",
                *_table("stories", self.stories),
                *_table("faults", self.faults),
                *_table("crashes", self.crashes),
                *_table("transitions", self.transitions),
                *self._commands(),
                f"never met: {', '.join(self.unmet()) or 'nothing'}",
                f"never reached: {', '.join(self.unreached()) or 'nothing'}",
                f"never given: {'; '.join(self.ungiven()) or 'nothing'}",
            ]
        )

    def _commands(self) -> Iterable[str]:
        yield "  commands, by phase and operation under way: done/refused/failed"
        for phase, operation in SITUATIONS:
            counts = {
                command: [
                    self.commands[f"{cell(command, phase, operation)} | {outcome}"]
                    for outcome in ("done", "refused", "failed")
                ]
                for command in COMMANDS
            }
            if any(map(any, counts.values())):
                told = ", ".join(f"{c} {'/'.join(map(str, n))}" for c, n in counts.items())
                yield f"    {phase}, {operation}: {told}"


def _name(before: Phase, after: Phase) -> str:
    return f"{before.value} → {after.value}"


def _table(title: str, counts: Counter[str]) -> Iterable[str]:
    yield f"  {title}"
    for name, count in sorted(counts.items()):
        yield f"    {count:8d}  {name}"
