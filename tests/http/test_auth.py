from __future__ import annotations

import aiohttp
import pytest

from replicator.errors import Refused
from replicator.http.auth import is_loopback, parse_listen
from replicator.http.client import HttpControl
from replicator.http.server import HttpServer
from replicator.metrics import Metrics
from replicator.model.command import Pause
from replicator.settings.settings import HttpServerSettings
from replicator.settings.units import Secret
from replicator.testing.memory_control import MemoryControl

TOKEN = "correct horse"


def make(listen: str, token: str = "") -> HttpServer:
    return HttpServer(
        HttpServerSettings(listen=listen, token=Secret(token)),
        control=MemoryControl(),
        metrics=Metrics("articles", "1.0"),
    )


@pytest.mark.parametrize("listen", ["0.0.0.0:0", ":0", "[::]:0", "example.org:80"])
def test_off_loopback_a_token_is_not_optional(listen: str) -> None:
    with pytest.raises(Refused, match="token"):
        make(listen)


@pytest.mark.parametrize("listen", ["8080", "localhost", "localhost:http", "localhost:70000"])
def test_an_address_without_a_port_is_refused(listen: str) -> None:
    with pytest.raises(Refused, match="host:port"):
        make(listen)


def test_addresses_are_read_with_and_without_brackets() -> None:
    assert parse_listen("[::1]:80") == ("::1", 80)
    assert parse_listen("127.0.0.1:0") == ("127.0.0.1", 0)
    assert is_loopback("127.8.8.8")
    assert not is_loopback("localhost.example.org")


async def test_an_address_that_is_taken_is_refused(server: HttpServer) -> None:
    second = make(server.url.removeprefix("http://"))
    with pytest.raises(Refused, match="cannot listen") as caught:
        await second.start()
    assert caught.value.code == "listen-failed"


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer ", "Basic correct horse", "Bearer correct horsé"]
)
@pytest.mark.parametrize("path", ["/v1/pause", "/v1/tune", "/v1/dead-letters/discard"])
async def test_a_command_without_the_token_is_unauthorised(
    header: str | None,
    path: str,
    guarded: HttpServer,
    http: aiohttp.ClientSession,
    control: MemoryControl,
) -> None:
    headers = {} if header is None else {"Authorization": header}
    async with http.post(guarded.url + path, json={}, headers=headers) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert (await response.json())["error"]["code"] == "unauthorised"
    assert not control.shown.paused


async def test_the_token_opens_every_door(guarded: HttpServer, control: MemoryControl) -> None:
    async with HttpControl(guarded.url, Secret(TOKEN)) as remote:
        await remote.do(Pause())
        await remote.journal(1)
    assert control.shown.paused


async def test_with_a_token_keys_and_values_need_it_and_probes_do_not(
    guarded: HttpServer, http: aiohttp.ClientSession
) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/v1/status", "/"):
        async with http.get(guarded.url + path) as response:
            assert response.status == 200, path
    for path in ("/v1/findings", "/v1/dead-letters", "/v1/dead-letters/1", "/v1/journal"):
        async with http.get(guarded.url + path) as response:
            assert response.status == 401, path


async def test_a_name_rebound_to_loopback_is_turned_away(
    server: HttpServer, http: aiohttp.ClientSession, control: MemoryControl
) -> None:
    for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""):
        headers = {"Host": host}
        async with http.get(f"{server.url}/v1/status", headers=headers) as response:
            assert response.status == 400, host
        async with http.post(f"{server.url}/v1/pause", json={}, headers=headers) as response:
            assert response.status == 400, host
    assert not control.shown.paused
    for host in ("localhost", "localhost:9", "[::1]:9", "127.0.0.1"):
        async with http.get(f"{server.url}/v1/status", headers={"Host": host}) as response:
            assert response.status == 200, host


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
async def test_a_form_of_a_web_page_commands_nothing(
    content_type: str,
    server: HttpServer,
    http: aiohttp.ClientSession,
    control: MemoryControl,
) -> None:
    headers = {"Content-Type": content_type}
    url = f"{server.url}/v1/pause"
    async with http.post(url, data=b"{}", headers=headers) as response:
        assert response.status == 400
    assert not control.shown.paused
