"""`replicator check`: the preflight."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from replicator.cli import options, screen
from replicator.errors import AWAY, hint_of

if TYPE_CHECKING:
    from replicator.model.finding import CheckFinding


@click.command()
@options.config
@options.as_json
@options.wipe_target
def check(as_json: bool, wipe: tuple[str, ...]) -> None:
    """Find out what stands in the way. Changes nothing.

    Exits with 2 when a finding blocks, and with 3 when all that blocks is a store or a broker
    that does not answer.
    """
    from replicator.daemon import logs
    from replicator.http.auth import Guard, parse_listen
    from replicator.model.finding import Severity
    from replicator.settings.feeds import feed_kind
    from replicator.wiring import preflight

    settings = options.settings()
    feed = feed_kind(settings.feed)
    logs.validate(settings.log)
    Guard(parse_listen(settings.http.listen)[0], settings.http.token)
    findings = asyncio.run(preflight(settings, wipe=options.wiped(settings, wipe)))
    if as_json:
        screen.print_json(document(findings, feed))
    else:
        show(findings, feed)
        if not any(finding.severity is Severity.BLOCKS for finding in findings):
            click.echo("nothing blocks; next: replicator plan, then replicator run")
    end_if_blocked(findings)


def end_if_blocked(findings: list[CheckFinding]) -> None:
    """End the command with 2 where a finding blocks; with 3 where all that does is away."""
    from replicator.model.finding import Severity

    blocking = {f.code for f in findings if f.severity is Severity.BLOCKS}
    if blocking:
        click.get_current_context().exit(3 if blocking <= AWAY else 2)


def document(findings: list[CheckFinding], feed: str) -> list[dict[str, str]]:
    """The findings for programs."""
    return [
        {
            "severity": finding.severity.value,
            "code": finding.code,
            "subject": finding.subject,
            "message": finding.message,
            "hint": hint_of(finding.code, feed),
        }
        for finding in findings
    ]


def show(findings: list[CheckFinding], feed: str) -> None:
    """A line for each finding, and what to do about it."""
    from rich.text import Text

    from replicator.model.finding import Severity

    colours = {Severity.BLOCKS: "bold red", Severity.WARNS: "yellow", Severity.INFORMS: "dim"}
    out = screen.console()
    for finding in findings:
        line = Text(finding.severity.value, colours[finding.severity])
        line.append(f"  [{finding.code}] {finding.subject}: {finding.message}", "default")
        out.print(line, soft_wrap=True)
        if finding.severity is not Severity.INFORMS:
            out.print(f"        hint: {hint_of(finding.code, feed)}", soft_wrap=True)
