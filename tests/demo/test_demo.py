"""The packaged demonstration, smaller than people see it, as a program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = "from replicator.cli.main import main; main()"
WITHIN_S = 400
"""It takes half a minute alone; CI runs two of them beside other tests on two cores."""


def demo(directory: Path, *options: str) -> dict[str, Any]:
    arguments = ["demo", "--json", "--points", "800", "--directory", str(directory), *options]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["ok"] is True
    assert told["failed_requests"] == 0
    for proof in told["proofs"]:
        for store in ("source", "target"):
            differences = [proof[store][kind] for kind in ("missing", "extra", "different")]
            assert differences == [0, 0, 0]
            assert proof[store]["points"] > 0
        assert proof["recall_at_10"] > 0.99
    return told


@pytest.mark.crash
def test_a_migration_there_and_back_survives_kills_in_every_phase(tmp_path: Path) -> None:
    told = demo(tmp_path, "--seed", "11", "--crash", "--revert")
    assert [proof["after"] for proof in told["proofs"]] == ["cutover", "revert"]
    assert told["kills"] >= 8
    assert told["writes_at_target"] > 0


@pytest.mark.kafka
@pytest.mark.crash
def test_the_same_holds_with_a_real_kafka_broker(tmp_path: Path) -> None:
    told = demo(tmp_path, "--seed", "12", "--kafka", "--crash")
    assert told["feed"] == "Kafka"
    assert [proof["after"] for proof in told["proofs"]] == ["cutover"]
