"""`replicator emit`: JSON lines of events into the feed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import IO, TYPE_CHECKING

import click
import msgspec

from replicator.cli import options, screen
from replicator.model.position import Partition, Place

if TYPE_CHECKING:
    from replicator.settings.settings import Settings

_BATCH = 500
"""Events appended at once. Standard input is checked and emitted by as many."""
_SHOWN = 20

Encoded = tuple[bytes, bytes]


class BadLine(msgspec.Struct, frozen=True):
    """A line that is no event."""

    line: int
    code: str
    path: str
    message: str


class Stretch(msgspec.Struct):
    """The part of a partition that holds events of ours; those of others may lie between."""

    first: int
    """Offset of the first."""
    next: int
    """Offset behind the last."""
    events: int = 0


class Emitted(msgspec.Struct):
    """What became of the input. Nothing after the first bad batch was emitted."""

    emitted: int = 0
    places: dict[Partition, Stretch] = {}
    bad: list[BadLine] = []

    def lie(self, places: Sequence[Place]) -> None:
        """Events were appended at these places."""
        self.emitted += len(places)
        for at in places:
            stretch = self.places.setdefault(at.partition, Stretch(at.offset, at.offset))
            stretch.first = min(stretch.first, at.offset)
            stretch.next = max(stretch.next, at.offset + 1)
            stretch.events += 1


@click.command()
@options.config
@options.as_json
@click.argument("events", type=click.File("rb"), default="-")
def emit(as_json: bool, events: IO[bytes]) -> None:
    """Append events to the feed, one JSON value a line.

    `v` and `ts` may be left out. A file is checked whole before its first event is emitted;
    standard input by batches of 500. A batch with a bad line is not emitted, nor what follows.
    Where the events lie in the log is printed by partition.
    """
    outcome = asyncio.run(_emit(options.settings(), events))
    if as_json:
        screen.print_json(outcome)
    else:
        click.echo(f"emitted {outcome.emitted:,} events")
        for partition, at in sorted(outcome.places.items()):
            click.echo(f"{partition}: {at.events:,}, offsets {at.first} to {at.next - 1}")
        for bad in outcome.bad[:_SHOWN]:
            click.echo(f"line {bad.line}: {bad.code}: {bad.message}", err=True)
        if outcome.bad:
            click.echo(f"{len(outcome.bad):,} bad lines; nothing from their batch on", err=True)
    if outcome.bad:
        click.get_current_context().exit(1)


async def _emit(settings: Settings, events: IO[bytes]) -> Emitted:
    from replicator.wiring import known_collections, make_event_log

    settings = await known_collections(settings)
    outcome = Emitted()
    if events.seekable():
        for _ in _batches(settings, events, outcome):
            pass
        if outcome.bad:
            return outcome
        events.seek(0)
    log = make_event_log(settings)
    try:
        for batch in _batches(settings, events, outcome):
            outcome.lie(await log.append(batch))
    finally:
        await log.close()
    return outcome


def _batches(
    settings: Settings, lines: Iterable[bytes], outcome: Emitted
) -> Iterator[list[Encoded]]:
    """Encoded batches, up to the first that holds a bad line."""
    from replicator import clock
    from replicator.codecs.events import encode, event_from_json_line
    from replicator.errors import Rejected
    from replicator.settings.expansion import lists

    numbered = ((n, line) for n, line in enumerate(lines, 1) if line.strip())
    now_ms = int(clock.wall() * 1000)
    while chunk := list(islice(numbered, _BATCH)):
        batch = []
        for number, line in chunk:
            try:
                event = event_from_json_line(line, now_ms=now_ms)
                if not lists(settings, event.key.collection):
                    raise Rejected(
                        "field-invalid",
                        f"{event.key.collection!r} is no source collection of this migration",
                        "collection",
                    )
                batch.append(encode(event))
            except Rejected as error:
                outcome.bad.append(BadLine(number, error.code, error.path, error.message))
        if outcome.bad:
            return
        yield batch
