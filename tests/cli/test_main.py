from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from replicator.cli.main import COMMANDS, cli
from tests.cli.conftest import Run

HEAVY = {
    "aiohttp",
    "aiokafka",
    "aiosqlite",
    "grpc",
    "google.protobuf",
    "numpy",
    "prometheus_client",
    "qdrant_client",
    "qdrant_edge",
    "rich",
    "structlog",
    "uvloop",
}


def imported_by(*arguments: str) -> set[str]:
    """The modules that a fresh process holds after a command."""
    code = (
        "import sys; from click.testing import CliRunner; from replicator.cli.main import cli;"
        f"CliRunner().invoke(cli, {list(arguments)!r}); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_in_a_line_that_fits(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert not command.get_short_help_str(62).endswith("...")


def test_help_imports_no_driver() -> None:
    assert HEAVY & imported_by("--help") == set()


def test_a_command_to_the_daemon_imports_no_store_and_no_broker(config: Path) -> None:
    drivers = {"aiokafka", "grpc", "google.protobuf", "qdrant_client", "qdrant_edge"}
    assert drivers & imported_by("--config", str(config), "status") == set()


def test_the_configuration_may_be_named_before_and_after_the_command(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.toml")
    for arguments in (["-c", missing, "status"], ["status", "--config", missing]):
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 2
        assert f"error[config-missing]: {missing}" in result.stderr


def test_the_environment_names_the_configuration(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.toml")
    result = CliRunner().invoke(cli, ["status"], env={"REPLICATOR_CONFIG": missing})
    assert missing in result.stderr


def test_a_wrong_key_is_named_and_exits_with_2(replicator: Run, config: Path) -> None:
    config.write_text(config.read_text().replace("settle", "setle"))
    result = replicator("status")
    assert result.exit_code == 2
    assert "error[config-unknown-key]: feed.setle" in result.stderr


def test_an_unknown_command_or_option_exits_with_2(replicator: Run) -> None:
    assert replicator("migrate").exit_code == 2
    assert replicator("status", "--verbose").exit_code == 2


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -c 'from replicator.cli.main import main; main()' --help | true",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in done.stderr
