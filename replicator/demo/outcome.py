"""What a demonstration found out, as a table for people and as JSON for programs."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.table import Table

from replicator.demo.oracle import Comparison

_RECALL_MIN = 0.99
"""Both stores hold the same vectors, so they find the same; an index may miss one in a hundred.
"""


class Proof(msgspec.Struct, kw_only=True):
    """Both stores against the operation log, at one moment without writes."""

    after: str
    source: Comparison
    target: Comparison
    recall_at_10: float


class Outcome(msgspec.Struct, kw_only=True):
    """The whole demonstration. Times in seconds."""

    seed: int
    feed: str
    seconds: float = 0.0
    operations: int = 0
    events_applied: int = 0
    kills: int = 0
    writes: dict[str, int] = {}
    writes_at_target: int = 0
    searches: int = 0
    failed_requests: int = 0
    failures: list[str] = []
    """The first few of them, in words."""
    longest_write_pause_s: float = 0.0
    longest_search_s: float = 0.0
    proofs: list[Proof] = []
    problems: list[str] = []
    """Empty when all is as it must be."""

    @property
    def ok(self) -> bool:
        """Whether the demonstration succeeded."""
        return not self.problems and not self.failed_requests

    def prove(self, proof: Proof) -> None:
        """Add a proof, and what it says against us."""
        self.proofs.append(proof)
        for store, seen in (("source", proof.source), ("target", proof.target)):
            self.problems += [f"{proof.after}: {store}: {text}" for text in seen.examples]
        if not proof.recall_at_10 >= _RECALL_MIN:
            self.problems.append(f"{proof.after}: recall@10 is {proof.recall_at_10:.3f}")

    def json(self) -> str:
        """One object, with `ok` in it."""
        told = {"ok": self.ok, **msgspec.to_builtins(self)}
        return msgspec.json.format(msgspec.json.encode(told)).decode()

    def show(self, console: Console) -> None:
        """Print the tables."""
        console.print(self._figures())
        console.print(self._proofs())
        failures = [f"failed request: {text}" for text in self.failures]
        for problem in (*self.problems, *failures):
            console.print(f"[red]✗[/red] {problem}", highlight=False)
        if self.ok:
            console.print("[green]✓[/green] both stores hold what the operation log says")

    def _figures(self) -> Table:
        table = Table(title=f"seed {self.seed}, {self.feed}, {self.seconds:.0f} s")
        table.add_column("the application saw")
        table.add_column(justify="right")
        writes = ", ".join(f"{count} {op}" for op, count in self.writes.items())
        for name, value in (
            ("changes", writes),
            ("of them written to the target", str(self.writes_at_target)),
            ("searches", str(self.searches)),
            ("failed requests", str(self.failed_requests)),
            ("longest write pause", f"{self.longest_write_pause_s:.2f} s"),
            ("events applied by the replicator", str(self.events_applied)),
            ("times it was killed", str(self.kills)),
        ):
            table.add_row(name, value)
        return table

    def _proofs(self) -> Table:
        table = Table(title="both stores against the operation log")
        for name in ("after", "store"):
            table.add_column(name)
        for name in ("points", "missing", "extra", "different", "recall@10"):
            table.add_column(name, justify="right")
        for proof in self.proofs:
            for store, seen in (("source", proof.source), ("target", proof.target)):
                recall = f"{proof.recall_at_10:.3f}" if store == "target" else ""
                counts = (seen.points, seen.missing, seen.extra, seen.different)
                table.add_row(proof.after, store, *map(str, counts), recall)
        return table
