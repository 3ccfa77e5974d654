from __future__ import annotations

import asyncio
import base64
import io
from typing import TypeVar

import aiohttp
import numpy as np
import pytest

from replicator.errors import (
    Blocked,
    Fatal,
    OutcomeUnknown,
    OwnershipUnknown,
    Refused,
    ReplicatorError,
    Unavailable,
    exit_code,
)
from replicator.http.client import HttpControl
from replicator.http.server import HttpServer
from replicator.metrics import Metrics
from replicator.migration.cutover.gate import BLOCKERS
from replicator.model.command import (
    Abort,
    Answer,
    Command,
    Complete,
    Cutover,
    Own,
    Pause,
    Repair,
    Resume,
    Tune,
    Verify,
)
from replicator.model.event import Key
from replicator.model.finding import Blocker, Difference, Finding
from replicator.model.phase import Direction, Phase
from replicator.model.point import MultiVector, SparseVector
from replicator.model.search import Query
from replicator.settings.settings import HttpServerSettings
from replicator.settings.units import Secret
from replicator.testing.memory_control import EPOCH_S, MemoryControl

T = TypeVar("T")


def floats(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


async def test_a_command_answers_with_the_status_it_made(
    server: HttpServer, http: aiohttp.ClientSession, control: MemoryControl
) -> None:
    async with http.post(f"{server.url}/v1/pause", json={}) as response:
        assert response.status == 200
        assert (await response.json())["paused"] is True
    assert control.shown.paused


async def test_every_plain_command_reaches_the_migration(
    remote: HttpControl, control: MemoryControl
) -> None:
    await remote.do(Pause())
    assert control.shown.paused
    await remote.do(Resume())
    assert not control.shown.paused
    await remote.do(Own("target"))
    assert control.shown.direction is Direction.REVERSE
    await remote.do(Own("source"))
    assert control.shown.direction is Direction.FORWARD
    await remote.do(Complete())
    assert control.shown.phase is Phase.COMPLETE
    await remote.do(Abort())
    assert control.shown.phase is Phase.ABORTED


async def test_tune_takes_numbers_and_text_and_answers_with_all(
    server: HttpServer, http: aiohttp.ClientSession, remote: HttpControl
) -> None:
    url = f"{server.url}/v1/tune"
    async with http.post(url, json={"backfill.rate_max": 100}) as response:
        assert await response.json() == {"tunables": {"backfill.rate_max": "100"}}
    assert await remote.do(Tune()) == {"backfill.rate_max": "100"}
    with pytest.raises(Refused, match=r"no\.such"):
        await remote.do(Tune({"no.such": "1"}))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("gate-closed", "the lag is unknown"), 409),
        (Refused("bad-request", "no such level"), 400),
        (Refused("not-found", "no such letter"), 404),
        (Blocked("log-truncated", "t/0 begins at 9"), 409),
        (OwnershipUnknown("ownership-unknown", "the switch cannot be read"), 409),
        (Unavailable("target-unavailable", "connection refused"), 503),
        (OutcomeUnknown("outcome-unknown", "the reply was lost"), 503),
        (Fatal("internal", "a defect"), 500),
    ],
)
async def test_an_error_keeps_code_message_and_exit_code_on_its_way(
    error: ReplicatorError,
    status: int,
    server: HttpServer,
    http: aiohttp.ClientSession,
    remote: HttpControl,
    control: MemoryControl,
) -> None:
    control.failure = error
    async with http.post(f"{server.url}/v1/pause", json={}) as response:
        assert response.status == status
        told = (await response.json())["error"]
    assert (told["code"], told["message"], told["hint"]) == (
        error.code,
        error.message,
        error.hint,
    )
    control.failure = error
    with pytest.raises(type(error)) as caught:
        await remote.do(Pause())
    assert (caught.value.code, caught.value.message) == (error.code, error.message)
    assert exit_code(caught.value) == exit_code(error)


async def test_a_defect_behind_a_request_is_not_shown_to_the_client(
    server: HttpServer,
    http: aiohttp.ClientSession,
    control: MemoryControl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(_: object) -> None:
        raise KeyError("the secret of row 7")

    monkeypatch.setattr(control, "do", broken)
    async with http.post(f"{server.url}/v1/tune", json={}) as response:
        assert response.status == 500
        text = await response.text()
    assert "internal" in text
    assert "secret" not in text


async def test_verify_answers_with_the_report(
    remote: HttpControl, control: MemoryControl
) -> None:
    control.found = [
        Finding(
            key=Key("articles", 5),
            kind=Difference.EXTRA,
            detail="",
            generation=1,
            at=EPOCH_S,
        )
    ]
    assert await remote.report() is None
    report = await remote.do(Verify(level="full"))
    assert report == control.last_report
    assert not report.equal
    assert await remote.report() == report
    assert await remote.do(Repair()) == 1
    assert await remote.do(Repair("articles")) == 0


async def test_queries_of_every_shape_reach_the_migration(
    remote: HttpControl, control: MemoryControl
) -> None:
    queries = [
        Query(vector=floats(0.1, 0.2), using="title", limit=3, filter={"must": []}),
        Query(
            vector=SparseVector(np.array([1, 7], "<u4").tobytes(), floats(0.5, 0.25)),
            using="words",
        ),
        Query(vector=MultiVector(2, floats(1, 2, 3, 4))),
    ]
    await remote.do(Verify(level="sample", queries=queries))
    assert control.requests == [Verify(level="sample", queries=queries)]


async def test_a_query_may_be_written_by_hand(
    server: HttpServer, http: aiohttp.ClientSession, control: MemoryControl
) -> None:
    told = [
        {"vector": [0.5, 1]},
        {"vector": "f32:" + base64.b64encode(floats(0.5, 1)).decode()},
        {"vector": {"indices": [9, 2], "values": [0.5, 1]}},
    ]
    async with http.post(f"{server.url}/v1/verify", json={"queries": told}) as response:
        assert response.status == 200
    (request,) = control.requests
    assert isinstance(request, Verify)
    assert request.queries is not None
    assert [query.vector for query in request.queries] == [
        floats(0.5, 1),
        floats(0.5, 1),
        SparseVector(np.array([2, 9], "<u4").tobytes(), floats(1, 0.5)),
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("pause", b"{"),
        ("pause", b'{"force": true}'),
        ("cutover", b'{"wait": true}'),
        ("cutover", b'{"timeout_s": "soon"}'),
        ("verify", b'{"level": "deep"}'),
        ("verify", b'{"queries": [{"vector": []}]}'),
        ("verify", b'{"queries": [{"vector": [1e39]}]}'),
        ("verify", b'{"queries": [{"vector": {"rows": 2, "data": [[1, 2], [3]]}}]}'),
        ("verify", b'{"queries": [{"vector": "abc"}]}'),
        ("verify", b'{"queries": [{"vector": "f32:abc"}]}'),
        ("verify", b'{"queries": [{"vector": [1], "limit": 0}]}'),
        ("verify", b'{"queries": [{"vector": {"indices": [-1], "values": [1]}}]}'),
        ("verify", b'{"queries": [{"vector": {"indices": [1, 2], "values": [1]}}]}'),
        ("own", b'{"store": "both"}'),
        ("own", b"{}"),
        ("answer", b"{}"),
        ("dead-letters/discard", b"{}"),
        ("dead-letters/retry", b'{"numbers": "all"}'),
    ],
)
async def test_a_malformed_body_is_refused_and_changes_nothing(
    path: str,
    body: bytes,
    server: HttpServer,
    http: aiohttp.ClientSession,
    control: MemoryControl,
) -> None:
    json = {"Content-Type": "application/json"}
    async with http.post(f"{server.url}/v1/{path}", data=body, headers=json) as response:
        assert response.status == 400
        assert (await response.json())["error"]["code"] == "bad-request"
    assert control.requests == []
    assert control.entries == []


async def test_a_body_over_the_limit_is_refused(
    server: HttpServer, http: aiohttp.ClientSession
) -> None:
    body = io.BytesIO(b" " * (9 << 20))
    json = {"Content-Type": "application/json"}
    async with http.post(f"{server.url}/v1/verify", data=body, headers=json) as response:
        assert response.status == 413


async def test_a_dry_run_lists_the_blockers(
    remote: HttpControl, control: MemoryControl
) -> None:
    control.shown.blockers = [Blocker("lag", "the lag is unknown")]
    [blocker] = await remote.do(Cutover(dry_run=True))
    assert (blocker.code, blocker.message) == ("lag", "the lag is unknown")
    assert blocker.hint == BLOCKERS["lag"]
    with pytest.raises(Refused, match="the lag is unknown"):
        await remote.do(Cutover())


async def test_a_question_is_answered_while_the_cutover_waits(
    remote: HttpControl, control: MemoryControl
) -> None:
    control.question = "have all writers stopped?"
    cutover = asyncio.create_task(remote.do(Cutover(timeout_s=60)))
    while (fence := (await remote.status()).fence) is None or fence.question is None:
        assert not cutover.done()
    await remote.do(Answer(True))
    assert await cutover == []
    assert (await remote.status()).direction is Direction.REVERSE
    with pytest.raises(Refused, match="nothing is asked"):
        await remote.do(Answer(True))


@pytest.mark.parametrize("command", ["cutover", "revert", "verify", "repair"])
async def test_a_client_that_goes_away_cancels_nothing(
    command: str, control: MemoryControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.held.clear()
    done = asyncio.Event()
    do = control.do

    async def watched(asked: Command[T]) -> T:
        answer = await do(asked)
        done.set()
        return answer

    monkeypatch.setattr(control, "do", watched)
    server = HttpServer(
        HttpServerSettings(listen="127.0.0.1:0"),
        control=control,
        metrics=Metrics("articles", "1.0"),
    )
    await server.start()
    async with aiohttp.ClientSession() as http:
        request = asyncio.create_task(http.post(f"{server.url}/v1/{command}", json={}))
        await control.begun.wait()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    control.held.set()
    async with asyncio.timeout(5):
        await done.wait()
    await server.close()


async def test_a_daemon_that_is_not_there_is_unavailable() -> None:
    async with HttpControl("http://127.0.0.1:1", Secret("")) as remote:
        with pytest.raises(Unavailable) as caught:
            await remote.status()
        assert caught.value.code == "daemon-unavailable"
        assert exit_code(caught.value) == 3
        with pytest.raises(Unavailable):
            await remote.do(Cutover())
        with pytest.raises(Unavailable):
            [each async for each in remote.findings()]


async def test_closing_the_server_ends_what_a_request_began(
    server: HttpServer, http: aiohttp.ClientSession, control: MemoryControl
) -> None:
    control.held.clear()
    request = asyncio.create_task(http.post(f"{server.url}/v1/verify", json={}))
    await control.begun.wait()
    await server.close()
    with pytest.raises(aiohttp.ClientError):
        await request
    assert control.last_report is None
