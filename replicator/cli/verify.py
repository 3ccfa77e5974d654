"""`replicator verify` and `replicator repair`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from replicator.cli import options, screen
from replicator.model.command import CancelVerification, Level, Repair, Verify

if TYPE_CHECKING:
    from replicator.cli.waiting import Figures
    from replicator.model.report import Report
    from replicator.model.search import Query
    from replicator.model.status import Status

_FINDINGS_SHOWN = 20


@click.command()
@options.config
@options.as_json
@click.option(
    "--level",
    type=click.Choice(get_args(Level)),
    default="full",
    show_default=True,
    help="counts: points of both stores; sample: some keys; full: every key, both ways.",
)
@click.option(
    "--search",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="QUERIES",
    help="A file with one query a line to compare both stores' results; stored points when"
    " absent.",
)
@click.option("--cancel", is_flag=True, help="Stop the verification under way instead.")
def verify(as_json: bool, level: Level, search: Path | None, cancel: bool) -> None:
    """Compare both stores while the stream runs.

    Exits with 1 when they differ.
    """
    if cancel:
        cancelled = asyncio.run(_cancel())
        if as_json:
            screen.print_json({"cancelled": cancelled})
        else:
            click.echo("cancelled" if cancelled else "no verification is under way")
        return
    queries = None if search is None else read_queries(search)
    report = asyncio.run(_verify(Verify(level=level, queries=queries)))
    if as_json:
        from replicator.http import wire

        screen.print_json(wire.document(report))
    else:
        show(report)
    if not report.equal or report.below:
        click.get_current_context().exit(1)


@click.command()
@options.config
@options.as_json
@click.option(
    "--collection",
    metavar="NAME",
    help="Every key of this source collection, instead of those that a verification found.",
)
def repair(as_json: bool, collection: str | None) -> None:
    """Copy anew the keys that a verification found.

    The stream runs on meanwhile.
    """
    repaired = asyncio.run(_repair(collection))
    if as_json:
        screen.print_json({"repaired": repaired})
    else:
        click.echo(f"repaired {repaired:,} keys; next: replicator verify")


async def _verify(command: Verify) -> Report:
    from replicator.cli.connection import connection
    from replicator.cli.waiting import Figures, watched

    settings = options.settings()

    def figures(status: Status) -> Figures:
        now = status.verify
        wrong = now.missing + now.extra + now.different
        return Figures(now.compared, now.expected, f"{now.phase}, {wrong:,} differ")

    async with connection(settings) as control:
        return await watched(
            control,
            control.do(command),
            label="verify",
            line_s=settings.log.interval,
            figures=figures,
        )


async def _cancel() -> bool:
    from replicator.cli.connection import connection

    async with connection(options.settings()) as control:
        return await control.do(CancelVerification())


async def _repair(collection: str | None) -> int:
    from replicator.cli.connection import connection
    from replicator.cli.waiting import Figures, watched

    settings = options.settings()

    async with connection(settings) as control:
        before = (await control.status()).verify
        found = before.missing + before.extra + before.different

        def figures(status: Status) -> Figures:
            now = status.verify
            left = now.missing + now.extra + now.different
            return Figures(max(0, found - left), found if collection is None else None)

        return await watched(
            control,
            control.do(Repair(collection)),
            label="repair",
            line_s=settings.log.interval,
            figures=figures,
        )


def read_queries(path: Path) -> list[Query]:
    """The queries of a file. Raises Refused with the line that is wrong."""
    import msgspec

    from replicator.errors import Refused
    from replicator.http.queries import QueryBody, query_from

    found = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as exc:
        raise Refused("bad-request", f"{path}: {exc.strerror}") from exc
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(query_from(msgspec.json.decode(line, type=QueryBody)))
        except msgspec.DecodeError as exc:
            raise Refused("bad-request", f"{path}, line {number}: {exc}") from exc
        except Refused as exc:
            raise Refused(exc.code, f"{path}, line {number}: {exc.message}") from exc
    return found


def _besides(report: Report) -> Iterator[str]:
    """What was found beside the keys: configuration, search, and what to look at."""
    for name, differences in report.configuration.items():
        for each in differences:
            word = "not as planned" if each.blocks else "told only"
            yield f"configuration {name}: {each.code}, {each} ({word})"
    for name, figures in report.search.items():
        told = ", ".join(f"{key} {value}" for key, value in figures.items())
        yield f"search {name}: {told}"
    for sentence in report.below:
        yield f"below the threshold: {sentence}"
    for sentence in report.warnings:
        yield f"look at: {sentence}"


def show(report: Report) -> None:
    """What a verification found, for people."""
    out = screen.console()
    verdict = "both stores are equal" if report.equal else "the stores differ"
    took = screen.span(report.finished_at - report.started_at)
    out.print(
        f"{verdict}: {report.compared:,} keys compared at level {report.level} in {took};"
        f" {report.missing:,} missing, {report.extra:,} extra, {report.different:,} different"
    )
    if report.uncarried:
        out.print(
            f"{report.uncarried:,} source rows cannot be carried: replicator dead-letters list"
        )
    if report.hot:
        out.print(f"{report.hot:,} keys changed at every look: neither findings nor equal")
    if report.counts:
        rows = (
            (name, screen.count(source), screen.count(target))
            for name, (source, target) in report.counts.items()
        )
        both = (
            (f"all in {name}", screen.count(sources), screen.count(target))
            for name, (sources, target) in report.together.items()
        )
        head = ("collection", "points at the source", "points at the target")
        out.print(screen.table(head, (*rows, *both), right=(1, 2)))
    for line in _besides(report):
        out.print(line)
    shown = report.findings[:_FINDINGS_SHOWN]
    if shown:
        rows_of = ((each.key.shown, each.kind.value, each.detail) for each in shown)
        out.print(screen.table(("key", "finding", "detail"), rows_of))
    found = report.missing + report.extra + report.different
    if found > len(shown):
        out.print(f"… and {found - len(shown):,} more; --json has the first of them")
    if found:
        out.print("next: replicator repair")
