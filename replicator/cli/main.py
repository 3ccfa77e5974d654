"""The entry point, and the list of all commands."""

from __future__ import annotations

import click

from replicator import __version__
from replicator.cli.group import LazyGroup

COMMANDS = {
    "demo": "replicator.cli.demo:demo",
    "stores": "replicator.cli.stores:stores",
    "init": "replicator.cli.init:init",
    "check": "replicator.cli.check:check",
    "plan": "replicator.cli.plan:plan",
    "migrate": "replicator.cli.migrate:migrate",
    "run": "replicator.cli.run:run",
    "status": "replicator.cli.status:status",
    "pause": "replicator.cli.steer:pause",
    "resume": "replicator.cli.steer:resume",
    "tune": "replicator.cli.steer:tune",
    "verify": "replicator.cli.verify:verify",
    "repair": "replicator.cli.verify:repair",
    "cutover": "replicator.cli.cutover:cutover",
    "revert": "replicator.cli.cutover:revert",
    "complete": "replicator.cli.steer:complete",
    "abort": "replicator.cli.steer:abort",
    "own": "replicator.cli.steer:own",
    "answer": "replicator.cli.steer:answer",
    "acknowledge": "replicator.cli.steer:acknowledge",
    "journal": "replicator.cli.journal:journal",
    "dead-letters": "replicator.cli.letters:letters",
    "emit": "replicator.cli.emit:emit",
    "export": "replicator.cli.transfer:export",
    "import": "replicator.cli.transfer:import_",
    "local-store": "replicator.cli.local_store:local_store",
}
"""In the order of a migration; `--help` shows them so."""


@click.group(
    cls=LazyGroup,
    commands_at=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="replicator")
@click.option(
    "-c",
    "--config",
    metavar="FILE",
    help="Configuration file. Default: $REPLICATOR_CONFIG, then config/replicator.toml.",
)
@click.pass_context
def cli(context: click.Context, config: str | None) -> None:
    """Move a live vector database to another one, without downtime or a lost change."""
    context.obj = config


def main() -> None:
    """Run the command line; the process ends here."""
    cli()
