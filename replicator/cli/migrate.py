"""`replicator migrate`: a plain copy from one URL to another, compared and searched."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from replicator.cli import check, options, plan, screen, verify
from replicator.cli.carrying import Carried, begin_again, carry
from replicator.errors import Refused, ReplicatorError

if TYPE_CHECKING:
    from replicator.migration.preflight.plan import Plan
    from replicator.model.finding import CheckFinding
    from replicator.model.report import Report
    from replicator.model.search import Query
    from replicator.settings.settings import Settings


@click.command()
@options.as_json
@options.wipe_target
@click.option(
    "--queries",
    "asked",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="QUERIES",
    help="A file with one query a line to compare both stores' results; stored points when"
    " absent.",
)
@click.option(
    "--min-recall",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Exit with 1 where the recall of a collection is below it, or could not be measured."
    " Without it only a recall that is certainly below verify.recall_min is too low.",
)
@click.option(
    "--accept",
    metavar="CODE",
    multiple=True,
    help="Accept this loss, by the code that was told. Repeat for several.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var"),
    show_default=True,
    help="Where the state of the copy is kept, and its configuration.",
)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
def migrate(
    *,
    as_json: bool,
    wipe: tuple[str, ...],
    asked: Path | None,
    min_recall: float | None,
    accept: tuple[str, ...],
    directory: Path,
    source: str,
    target: str,
) -> None:
    """Copy SOURCE to TARGET, two URLs, and prove them equal. Needs no configuration.

    Checks, plans, copies, compares every key, and compares what searches find. Nobody may write
    the source meanwhile; a migration without that pause needs a feed, and a configuration.

    A URL is the kind, the place and the collection, as in chroma://localhost:8000/articles or
    jsonl:///directory/articles; without a collection all are meant. Settings stand behind a
    `?`; secrets are taken from the environment, as SOURCE_API_KEY or TARGET_TOKEN.

    What is interrupted goes on when it is run again. A target that holds points is refused.

    Exits with 1 when the stores differ, or recall is too low; with 2 when something stands in
    the way, and with 3 when a store does not answer.
    """
    from replicator.cli.addresses import addressed
    from replicator.daemon import logs
    from replicator.wiring import make_plan, name_collections, preflight

    logs.quiet()
    told = addressed(source, target, accept=accept, recall_min=min_recall, folder=directory)
    settings = told.settings
    queries = None if asked is None else verify.read_queries(asked)
    wiped = options.wiped(settings, wipe)
    asyncio.run(begin_again("migration", settings, wiping=bool(wiped)))
    findings = asyncio.run(preflight(settings, wipe=wiped))
    _show_findings(findings, as_json=as_json)
    _check_queries(queries, asyncio.run(name_collections(settings)))
    planned = asyncio.run(make_plan(settings))
    if not as_json:
        plan.show(planned)
    config = _leave(directory, settings, told.text)
    try:
        carried = carry("migrate", settings, wipe=wiped, queries=queries)
    except ReplicatorError as error:
        if error.code == "rows-left":
            click.echo(f"see: replicator dead-letters list -c {config}", err=True)
        raise
    missed = [] if carried.report is None else _missed(carried.report, min_recall)
    if as_json:
        screen.print_json(_document(planned, carried, missed))
    else:
        _tell(settings, carried, missed)
    if missed:
        click.get_current_context().exit(1)


def _show_findings(findings: list[CheckFinding], *, as_json: bool) -> None:
    """Say what stands in the way, and end there where it blocks."""
    from replicator.model.finding import Severity

    if not as_json:
        check.show(findings, "none")
    elif any(finding.severity is Severity.BLOCKS for finding in findings):
        screen.print_json({"done": False, "findings": check.document(findings, "none")})
    check.end_if_blocked(findings)


def _check_queries(queries: list[Query] | None, settings: Settings) -> None:
    """Raises Refused("not-found") for a query that no collection will be asked."""
    names = [collection.source for collection in settings.collections]
    for query in queries or ():
        if query.collection is not None and query.collection not in names:
            raise Refused(
                "not-found",
                f"a query is for {query.collection!r}; the source has {', '.join(names)}",
            )


def _leave(directory: Path, settings: Settings, text: str) -> Path:
    """Write down what is copied where, for the commands that look at it afterwards."""
    path = directory / f"{settings.name}.toml"
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# Of `replicator migrate`; secrets are in the environment.\n\n{text}")
    return path


def _missed(report: Report, min_recall: float | None) -> list[str]:
    """Which collections fall short. What is asked for by number is met or not, whatever the
    interval of so few queries says.
    """
    if min_recall is None:
        return report.below
    missed = []
    for name in report.counts:
        recall = report.search.get(name, {}).get("recall")
        if recall is None:
            missed.append(f"{name}: no search could be compared")
        elif recall < min_recall:
            missed.append(f"{name}: recall {recall} is below {min_recall}")
    return missed


def _document(planned: Plan, carried: Carried, missed: list[str]) -> dict[str, Any]:
    from replicator.http import wire

    return {
        "done": carried.done,
        "copied": carried.copied,
        "missed": missed,
        "plan": planned,
        "report": None if carried.report is None else wire.document(carried.report),
    }


def _tell(settings: Settings, carried: Carried, missed: list[str]) -> None:
    from replicator.settings.variants import kind_of

    if carried.report is not None:
        verify.show(carried.report)
    for sentence in missed:
        click.echo(f"missed: {sentence}")
    if not carried.done:
        click.echo(f"stopped after {carried.copied:,} points; run it again")
        return
    click.echo(f"migrated: {carried.copied:,} points")
    source, target = kind_of(settings.source), kind_of(settings.target)
    click.echo(
        "what the source is written from now on is not carried; to follow it, and to cut over"
        f" without losing a write: replicator init --source {source} --target {target}"
    )
