from __future__ import annotations

import re

import aiohttp
import msgspec
import pytest

from replicator.errors import CHANGELOG_HINTS, CODES, Fatal, Unavailable
from replicator.http.client import HttpControl
from replicator.http.server import HttpServer
from replicator.metrics import Metrics
from replicator.migration.cutover.gate import BLOCKERS
from replicator.model.command import Pause, Resume
from replicator.model.event import Key
from replicator.model.finding import Blocker, Difference, Finding
from replicator.model.phase import Phase
from replicator.model.status import LagStatus, PartitionStatus
from replicator.settings.settings import HttpServerSettings
from replicator.testing.memory_control import EPOCH_S, MemoryControl, streaming_status


def finding(point_id: int | str) -> Finding:
    return Finding(
        key=Key("articles", point_id),
        kind=Difference.MISSING,
        detail="",
        generation=1,
        at=EPOCH_S,
    )


async def test_livez_answers_without_asking_the_migration(
    server: HttpServer, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(MemoryControl, "status")
    async with http.get(f"{server.url}/livez") as response:
        assert response.status == 200


async def test_readyz_says_why_it_is_not_ready_and_what_to_do(
    server: HttpServer, http: aiohttp.ClientSession, control: MemoryControl
) -> None:
    async with http.get(f"{server.url}/readyz") as response:
        assert response.status == 200
    control.shown.ready = False
    control.shown.not_ready = [Blocker("target-unavailable", "localhost:6334 does not answer")]
    async with http.get(f"{server.url}/readyz") as response:
        assert response.status == 503
        told = await response.json()
    assert told["reasons"][0]["code"] == "target-unavailable"
    assert told["reasons"][0]["message"] == "localhost:6334 does not answer"
    assert "network" in told["reasons"][0]["hint"]


async def test_the_status_has_every_key_of_the_contract_and_unknown_is_null(
    server: HttpServer, http: aiohttp.ClientSession, control: MemoryControl
) -> None:
    control.shown.lag = LagStatus(unknown_partitions=1)
    control.shown.partitions = [
        PartitionStatus(partition="t/0", end=None, position=3, applied=2, committed=1)
    ]
    async with http.get(f"{server.url}/v1/status") as response:
        told = await response.json()
    assert told["since"] == "2025-06-15T15:06:40.000Z"
    assert told["phase"] == "STREAMING"
    assert told["direction"] == "forward"
    assert told["application_may_write"] == "source"
    assert told["lag"] == {"records": None, "seconds": None, "unknown_partitions": 1}
    assert told["partitions"] == [
        {
            "partition": "t/0",
            "end": None,
            "position": 3,
            "applied": 2,
            "committed": 1,
            "status": "OK",
        }
    ]
    assert told["retention"] == {"headroom_s": None}
    assert told["fence"] is None
    assert set(told) >= {"name", "version", "paused", "can_cutover", "blockers"}
    assert set(told["backfill"]) == {"estimated", "copied", "percent", "rate_per_s", "eta_s"}
    assert set(told["stream"]) >= {
        "applied",
        "in_flight",
        "coalesced",
        "retries",
        "dead_letters",
        "throttled",
    }
    assert set(told["verify"]) >= {
        "generation",
        "phase",
        "compared",
        "missing",
        "extra",
        "different",
        "hot",
        "at",
    }


async def test_metrics_show_the_same_truth_as_the_status(
    server: HttpServer, http: aiohttp.ClientSession, control: MemoryControl
) -> None:
    control.shown.lag = LagStatus(unknown_partitions=1)
    async with http.get(f"{server.url}/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        text = await response.text()
    assert 'replicator_lag_records{migration="articles"} +Inf' in text
    assert 'replicator_phase{migration="articles",phase="STREAMING"} 1.0' in text


async def test_a_status_travels_to_the_client_unchanged(
    remote: HttpControl, control: MemoryControl
) -> None:
    control.shown = streaming_status()
    control.shown.verify.at = EPOCH_S + 0.5
    assert await remote.status() == control.shown


async def test_the_journal_is_the_newest_entries_oldest_of_them_first(
    remote: HttpControl, control: MemoryControl
) -> None:
    for _ in range(3):
        await control.do(Pause())
        await control.do(Resume())
    assert await remote.journal(2) == control.entries[-2:]
    assert await remote.journal(0) == []


async def test_findings_come_as_lines_however_large_their_ids(
    remote: HttpControl, control: MemoryControl
) -> None:
    control.found = [finding(2**64 - 1), finding("ü" * 200_000), finding(0)]
    assert [each async for each in remote.findings()] == control.found


async def test_findings_that_break_off_never_look_complete(
    remote: HttpControl, control: MemoryControl
) -> None:
    control.found = [finding(1), finding(2)]
    control.failure = Fatal("internal", "the disk is gone")
    with pytest.raises(Unavailable) as caught:
        [each async for each in remote.findings()]
    assert caught.value.code == "daemon-unavailable"


async def test_a_number_out_of_bounds_is_refused_by_name(
    server: HttpServer, http: aiohttp.ClientSession
) -> None:
    for text in ("-1", "many", "99999999", "9" * 5000):
        async with http.get(f"{server.url}/v1/journal", params={"limit": text}) as response:
            assert response.status == 400
            assert (await response.json())["error"]["message"].startswith("limit:")


async def test_the_page_is_one_file_that_asks_nobody_but_us(
    server: HttpServer, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{server.url}/") as response:
        assert response.content_type == "text/html"
        policy = response.headers["Content-Security-Policy"]
        html = await response.text()
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert not re.search(r"(src|href)=\"?(https?:)?//", html)
    for phase in set(Phase) - {Phase.STREAMING, Phase.BACKFILL}:
        assert re.search(rf"\b{phase.value}\b", html), f"the page does not know {phase}"
    for field in ("missing", "extra", "different", "hot"):
        assert f"v.{field}" in html, f"the page does not show {field} keys"


async def test_what_does_not_exist_is_said_in_our_own_form(
    server: HttpServer, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{server.url}/v2/status") as response:
        assert response.status == 404
        error = msgspec.json.decode(await response.read())["error"]
    assert error["code"] == "not-found"
    assert error["hint"]
    async with http.get(f"{server.url}/v1/pause") as response:
        assert response.status == 405
        assert (await response.json())["error"]["code"] == "bad-request"


async def test_every_blocker_goes_out_with_what_to_do(
    server: HttpServer, http: aiohttp.ClientSession, control: MemoryControl
) -> None:
    control.shown.blockers = [Blocker(code, "so it is") for code in BLOCKERS]
    control.shown.not_ready = [Blocker("target-unavailable", "connection refused")]
    async with http.get(f"{server.url}/v1/status") as response:
        told = await response.json()
    assert {each["code"]: each["hint"] for each in told["blockers"]} == BLOCKERS
    assert told["not_ready"][0]["hint"] == CODES["target-unavailable"]


async def test_a_hint_that_is_given_is_left_as_it_is(
    server: HttpServer, http: aiohttp.ClientSession, control: MemoryControl
) -> None:
    control.shown.blockers = [Blocker("lag-unknown", "so it is", "look at the change log")]
    async with http.get(f"{server.url}/v1/status") as response:
        [blocker] = (await response.json())["blockers"]
    assert blocker["hint"] == "look at the change log"


async def test_an_errors_hint_speaks_of_the_log_that_there_is(
    http: aiohttp.ClientSession, control: MemoryControl
) -> None:
    server = HttpServer(
        HttpServerSettings(listen="127.0.0.1:0"),
        control=control,
        metrics=Metrics("articles", "1.0"),
        feed="changelog",
    )
    await server.start()
    try:
        control.failure = Unavailable("feed-unavailable", "disk I/O error")
        async with http.post(f"{server.url}/v1/pause", json={}) as response:
            told = (await response.json())["error"]
    finally:
        await server.close()
    assert told["hint"] == CHANGELOG_HINTS["feed-unavailable"]
