"""`replicator plan`: what there is and what will be written where."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from replicator.cli import options, screen

if TYPE_CHECKING:
    from replicator.migration.preflight.plan import CollectionPlan, EmbeddingPlan, Plan


@click.command()
@options.config
@options.as_json
def plan(as_json: bool) -> None:
    """Show what will be written where. Changes nothing."""
    from replicator.wiring import make_plan

    made = asyncio.run(make_plan(options.settings()))
    if as_json:
        screen.print_json(made)
    else:
        _show(made)


def _show(made: Plan) -> None:
    out = screen.console()
    out.print(
        f"{made.name}: {made.complexity}, feed {made.feed}; {screen.count(made.points)} points,"
        f" about {_size(made.bytes)} at the target, about {screen.span(made.seconds)} to copy",
        soft_wrap=True,
    )
    for collection in made.collections:
        out.print()
        out.print(screen.table(("", ""), _rows(collection)))


def _rows(made: CollectionPlan) -> list[tuple[str, str]]:
    creates = "will be created" if made.creates_target else "exists"
    rows = [
        ("collection", f"{made.source} → {made.target} ({creates})"),
        ("points", screen.count(made.points)),
        ("size", f"about {_size(made.bytes)}"),
        ("ids", made.ids),
    ]
    rows += [("scopes", made.scopes)] if made.scopes is not None else []
    rows += [
        (f"vector {name or '(unnamed)'}", becomes) for name, becomes in made.vectors.items()
    ]
    rows += [("index", f"{field}: {kind}") for field, kind in made.indexes.items()]
    rows += [("setting", f"{name}: {value}") for name, value in made.configuration.items()]
    rows += [("transform", step) for step in made.steps]
    rows += [
        (f"vector {name or '(unnamed)'}", _embedding(each))
        for name, each in made.embeddings.items()
    ]
    rows += [("loss", sentence) for sentence in made.losses]
    rows += [("lost", sentence) for sentence in made.lossy]
    return rows


def _embedding(made: EmbeddingPlan) -> str:
    parts = [f"made anew by {made.function}", f"{screen.count(made.texts)} texts"]
    if made.characters is not None:
        parts.append(f"about {screen.count(made.characters)} characters")
    if made.cost is not None:
        parts.append(f"about {made.cost:.2f} to pay")
    if made.seconds is not None:
        parts.append(f"about {screen.span(made.seconds)} at its pace")
    return ", ".join(parts)


def _size(size: int | None) -> str:
    if size is None:
        return "unknown size"
    for unit, bytes_ in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} B"
