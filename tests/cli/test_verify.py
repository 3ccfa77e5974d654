from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from replicator.errors import Refused
from replicator.model.command import Repair, Verify
from replicator.model.event import Key
from replicator.model.finding import Difference, Finding
from replicator.model.report import Report
from replicator.testing.memory_control import EPOCH_S, MemoryControl
from tests.cli.conftest import Run, Served
from tests.cli.terminal import Terminal


def finding(number: int) -> Finding:
    return Finding(
        key=Key("articles", number),
        kind=Difference.DIFFERENT,
        detail="payload.year",
        generation=1,
        at=EPOCH_S,
    )


def test_equal_stores_exit_with_0(replicator: Run, control: MemoryControl) -> None:
    result = replicator("verify", "--level", "counts")
    assert result.exit_code == 0
    assert "both stores are equal: 100 keys compared" in result.stdout
    assert control.requests == [Verify(level="counts")]


def test_findings_exit_with_1_and_are_shown_up_to_a_screen(
    replicator: Run, control: MemoryControl
) -> None:
    control.found = [finding(number) for number in range(30)]
    result = replicator("verify")
    assert result.exit_code == 1
    assert "30 different" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["articles/0", "different", "payload.year"] in lines
    assert "… and 10 more" in result.stdout
    result = replicator("verify", "--json")
    assert result.exit_code == 1
    assert len(msgspec.json.decode(result.stdout)["findings"]) == 30


def test_keys_that_kept_changing_are_no_findings_and_are_shown(
    replicator: Run, control: MemoryControl
) -> None:
    control.hot = 1200
    result = replicator("verify")
    assert result.exit_code == 0
    assert "1,200 keys changed at every look" in result.stdout
    assert msgspec.json.decode(replicator("verify", "--json").stdout)["hot"] == 1200


def test_repair_says_how_many_keys(replicator: Run, control: MemoryControl) -> None:
    control.found = [finding(1), finding(2)]
    assert "repaired 2 keys" in replicator("repair").stdout
    result = replicator("repair", "--collection", "articles", "--json")
    assert msgspec.json.decode(result.stdout) == {"repaired": 0}
    assert control.requests == [Repair(), Repair("articles")]


def test_queries_are_read_from_a_file(
    replicator: Run, control: MemoryControl, tmp_path: Path
) -> None:
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"vector": [1, 0.5], "limit": 3}\n\n{"vector": [0, 1], "using": "t"}\n')
    assert replicator("verify", "--search", str(queries)).exit_code == 0
    (request,) = control.requests
    assert isinstance(request, Verify)
    assert request.queries is not None
    assert [(query.limit, query.using) for query in request.queries] == [(3, ""), (10, "t")]
    assert request.queries[0].vector == np.array([1, 0.5], "<f4").tobytes()


@pytest.mark.parametrize(
    "line", ["[1, 2]", '{"vector": []}', '{"vector": [1], "k": 3}', "not json"]
)
def test_a_query_that_is_none_is_named_by_its_line(
    replicator: Run, control: MemoryControl, tmp_path: Path, line: str
) -> None:
    queries = tmp_path / "queries.jsonl"
    queries.write_text(f'{{"vector": [1]}}\n{line}\n')
    result = replicator("verify", "--search", str(queries))
    assert result.exit_code == 2
    assert "line 2" in result.stderr
    assert control.requests == []


async def release(control: MemoryControl) -> None:
    control.held.set()


def test_an_interrupted_verification_goes_on_in_the_daemon(
    served: Served, config: Path
) -> None:
    control = served.control
    control.held.clear()
    terminal = Terminal(config, "verify")
    served.call(control.begun.wait())
    terminal.interrupt()
    assert terminal.end() == 130
    assert "verify goes on in the daemon" in terminal.seen
    assert "Traceback" not in terminal.seen
    served.call(release(control))
    served.call(control.reported.wait())
    terminal.close()


def test_a_verification_under_way_is_cancelled(
    replicator: Run, served: Served, control: MemoryControl
) -> None:
    assert "no verification is under way" in replicator("verify", "--cancel").stdout

    async def begin() -> asyncio.Task[Report]:
        control.held.clear()
        task = asyncio.ensure_future(control.do(Verify()))
        await control.begun.wait()
        return task

    task = served.call(begin())
    told = msgspec.json.decode(replicator("verify", "--cancel", "--json").stdout)
    assert told == {"cancelled": True}

    async def outcome() -> str:
        try:
            await task
        except Refused as refused:
            return refused.code
        return "done"

    assert served.call(outcome()) == "cancelled"
