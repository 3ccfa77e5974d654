"""A status as people read it on a terminal, and as one line."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.table import Table
from rich.text import Text

from replicator.cli.screen import count, moment, span, table
from replicator.model.finding import Blocker
from replicator.model.phase import TERMINAL, Direction, Phase
from replicator.model.status import FenceStatus, PartitionHealth, Status

_NEXT = {
    Phase.PLANNED: "the copy begins as soon as both stores and the feed answer",
    Phase.BACKFILL: "copying; changes wait in the log meanwhile",
    Phase.REPLAY: "applying what changed during the copy",
    Phase.FENCING: "the writer fence is closing or closed",
    Phase.SWITCHING: "traffic is being switched",
    Phase.HELD: "find out which store the application writes, then: replicator own",
    Phase.BLOCKED: "mend the cause, then: replicator resume; or: replicator abort",
    Phase.COMPLETE: "finished",
    Phase.ABORTED: "given up; the application stays on the source",
}
_COLOURS = {
    Phase.STREAMING: "green",
    Phase.COMPLETE: "green",
    Phase.BLOCKED: "bold red",
    Phase.HELD: "bold red",
    Phase.ABORTED: "red",
}


def line(status: Status) -> str:
    """The status in one line."""
    parts = [
        status.phase.value,
        status.direction.value,
        *(["paused"] if status.paused else []),
        f"copied {count(status.backfill.copied)}/{count(status.backfill.estimated)}",
        f"lag {count(status.lag.records)}",
        f"applied {count(status.stream.applied)}",
        f"dead letters {count(status.stream.dead_letters)}",
    ]
    return ", ".join(parts)


def picture(status: Status) -> Group:
    """The whole status; what keeps it from going on comes first."""
    head = Text()
    head.append(status.phase.value, _COLOURS.get(status.phase, "bold"))
    head.append(" (paused)" if status.paused else "")
    head.append(f"  {status.name}, {_next(status)}")
    parts: list[Text | Table] = [head, *_alarms(status), table(("", ""), _figures(status))]
    if status.fence is not None:
        parts += list(_fence(status.fence))
    if status.blockers and status.phase not in TERMINAL:
        parts.append(Text("the cutover gate is closed:", "yellow"))
        parts += [Text(f"  {blocker.code}: {_told(blocker)}") for blocker in status.blockers]
    if status.partitions:
        rows = (
            (
                row.partition,
                count(row.end),
                count(row.position),
                count(row.applied),
                count(row.committed),
                row.status.value if row.status is not PartitionHealth.OK else "ok",
            )
            for row in status.partitions
        )
        head_row = ("partition", "log end", "read to", "applied to", "persisted", "health")
        parts.append(table(head_row, rows, right=range(1, 5)))
    return Group(*parts)


def _next(status: Status) -> str:
    if status.paused:
        return "go on with: replicator resume"
    if status.phase is not Phase.STREAMING:
        return _NEXT[status.phase]
    if status.direction is Direction.REVERSE:
        return "the source is kept up to date; next: replicator revert, or replicator complete"
    if status.can_cutover:
        return "the gate is open; next: replicator cutover"
    return "following the source"


def _alarms(status: Status) -> Iterator[Text]:
    if status.reason and status.phase in {Phase.BLOCKED, Phase.HELD, Phase.ABORTED}:
        yield Text(f"  {status.reason}", "red")
    for blocker in status.not_ready:
        yield Text(f"  not ready: {_told(blocker)}", "red")
    for wait in status.waits:
        until = "" if wait.until is None else f", until {moment(wait.until)}"
        yield Text(f"  waits since {moment(wait.since)}{until}: {wait.message}", "yellow")
    for warning in status.warnings:
        yield Text(f"  warning: {_told(warning)}", "yellow")
    for fact in status.facts:
        seen = f"  latched {moment(fact.at)}: {fact.message}; "
        yield Text(f"{seen}see, then: replicator acknowledge {fact.code.value}", "yellow")


def _told(blocker: Blocker) -> str:
    return f"{blocker.message}. {blocker.hint}" if blocker.hint else blocker.message


def _figures(status: Status) -> Iterator[tuple[str, str]]:
    over = status.phase in TERMINAL
    place = status.application_may_write or "nowhere, or unknown"
    yield "application", f"writes {place} ({status.direction.value}, epoch {status.epoch})"
    yield "since", moment(status.since)
    copy = status.backfill
    done = "" if copy.percent is None else f", {copy.percent:.1f} %"
    rate = "" if copy.rate_per_s is None else f", {copy.rate_per_s:,.0f} rows/s"
    eta = "" if copy.eta_s is None else f", {span(copy.eta_s)} left"
    of = "" if over else f" of {count(copy.estimated)}"
    yield "backfill", f"{count(copy.copied)}{of}{done}{rate}{eta}"
    if over:
        yield "lag", "none: nothing is applied any more"
    elif status.lag.records is None:
        yield "lag", "unknown"
    else:
        yield "lag", f"{count(status.lag.records)} records, oldest {span(status.lag.seconds)}"
    stream = status.stream
    waiting = f"; waiting: {stream.throttled}" if stream.throttled else ""
    yield "stream", f"{count(stream.applied)} applied, {count(stream.retries)} retries{waiting}"
    letters = "; see: replicator dead-letters list" if stream.dead_letters else ""
    yield "dead letters", f"{count(stream.dead_letters)} open{letters}"
    verify = status.verify
    at = "never" if verify.at is None else moment(verify.at)
    hot = f"; {count(verify.hot)} changed at every look" if verify.hot else ""
    yield (
        "verified",
        f"{at} (generation {verify.generation}), now {verify.phase}: {count(verify.missing)}"
        f" missing, {count(verify.extra)} extra, {count(verify.different)} different{hot}",
    )
    if status.retention.headroom_s is not None:
        yield "log kept for", f"{span(status.retention.headroom_s)} more than needed"


def _fence(fence: FenceStatus) -> Iterator[Text]:
    outcome = f", {fence.outcome}" if fence.outcome else f", since {moment(fence.since)}"
    stopped = "" if fence.stopped_s is None else f", writes stopped for {fence.stopped_s:.2f} s"
    yield Text(f"{fence.operation}: step {fence.step}{outcome}{stopped}")
    if fence.question:
        yield Text(f"  asked: {fence.question}", "yellow")
