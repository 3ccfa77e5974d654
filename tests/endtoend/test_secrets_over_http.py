"""No credential comes out of the daemon's HTTP, whatever is asked of it and whatever fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import aiohttp
import msgspec
import pytest

from replicator.http.server import HttpServer
from replicator.kinds import variants
from replicator.metrics import Metrics
from replicator.settings.load import from_toml
from replicator.settings.redaction import secrets_of
from replicator.settings.settings import HttpServerSettings, Settings
from replicator.settings.units import Secret
from replicator.testing.memory_control import MemoryControl
from tests.endtoend.daemon import Daemon, Document, merged
from tests.endtoend.events import ChangelogSink
from tests.endtoend.processes import until
from tests.endtoend.rig import Rig, underscored

MARK = "S3cr3t"
"""Every credential begins with it: it must come out nowhere."""
TOKEN = f"{MARK}-http"
NOBODY = "127.0.0.1:1"
ENVIRONMENT = {"SPIED_KEY": f"{MARK}-source"}

SECRETS: Document = {
    "source": {"api_key": "${SPIED_KEY}"},
    "target": {"api_key": f"{MARK}-target"},
    "http": {"token": TOKEN},
    "cutover": {
        "fence": {
            "kind": "http",
            "url": f"http://{MARK}-user:{MARK}-word@{NOBODY}/f?key={MARK}-query#{MARK}-part",
        },
        "switch": {"kind": "http", "url": f"http://{NOBODY}/s", "token": f"{MARK}-switch"},
    },
    "hooks": {
        "before_fence": {
            "command": [
                "sh",
                "-c",
                'echo "denied: $* $SPIED_KEY http://u:$1@host/?k=$1" >&2; exit 1',
                "hook",
                f"--key={MARK}-hook",
                f"{MARK}-argument",
            ]
        },
        "after_open": {"url": f"http://{MARK}-user:{MARK}-word@{NOBODY}/h?key={MARK}-query"},
    },
}
STORES: dict[str, Document] = {
    "qdrant, chroma": {
        "source": {"kind": "qdrant", "url": f"http://{NOBODY}", "api_key": "${SPIED_KEY}"},
        "target": {"kind": "chroma", "url": f"http://{NOBODY}", "token": f"{MARK}-target"},
    },
    "pgvector, pinecone": {
        "source": {"kind": "pgvector", "dsn": f"postgresql://app:{MARK}-word@{NOBODY}/app"},
        "target": {
            "kind": "pinecone",
            "index": "articles",
            "control": f"http://{NOBODY}",
            "api_key": f"{MARK}-target",
        },
    },
    "weaviate, qdrant": {
        "source": {"kind": "weaviate", "url": f"http://{NOBODY}", "api_key": "${SPIED_KEY}"},
        "target": {"kind": "qdrant", "url": f"http://{NOBODY}", "api_key": f"{MARK}-target"},
    },
    "milvus, qdrant": {
        "source": {
            "kind": "milvus",
            "uri": f"http://{NOBODY}",
            "token": f"{MARK}-app:{MARK}-word",
        },
        "target": {"kind": "qdrant", "url": f"http://{NOBODY}", "api_key": f"{MARK}-target"},
    },
}
"""Every kind of store that has a secret, unreachable."""
UNREACHABLE: Document = merged(
    {name: section for name, section in SECRETS.items() if name not in ("source", "target")},
    {
        "feed": {
            "kind": "kafka",
            "bootstrap_servers": NOBODY,
            "topic": "t",
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_plain_username": "replicator",
            "sasl_plain_password": f"{MARK}-sasl",
            "ssl_keyfile_password": f"{MARK}-keyfile",
            "request_timeout": "1s",
        },
        "cutover": {"fence": {"url": f"http://{NOBODY}/f", "token": f"{MARK}-fence"}},
    },
)


def get_routes() -> list[str]:
    """Every path that the server answers a GET on, as its router has it."""
    server = HttpServer(
        HttpServerSettings(listen="127.0.0.1:0"),
        control=MemoryControl(),
        metrics=Metrics("articles", "1.0"),
    )
    routes = server._runner.app.router.routes()
    paths = {route.resource.canonical for route in routes if route.method == "GET"}  # type: ignore[union-attr]
    return sorted(path.replace("{number}", "1") for path in paths)


def spied(daemon: Daemon, secrets: Document) -> Daemon:
    """With these in its configuration."""
    daemon.document = merged(daemon.document, secrets)
    daemon.rewrite()
    return daemon


async def look(daemon: Daemon) -> dict[str, str]:
    """The answers on all routes, with the token and with a wrong one; none holds a secret."""
    url, told = f"http://{daemon.document['http']['listen']}", {}
    async with aiohttp.ClientSession() as session:
        for token in (f"{MARK}-wrong", TOKEN):
            headers = {"Authorization": f"Bearer {token}"}
            for path in [*get_routes(), f"/v1/none?key={MARK}-query"]:
                assert "{" not in path, "a route whose parameter this test does not know"
                async with session.get(url + path, headers=headers) as answer:
                    body = await answer.text()
                    told[path] = body
                    assert MARK not in body, (path, answer.status)
                    assert MARK not in str(answer.headers), path
    return told


async def post(daemon: Daemon, path: str, **body: Any) -> tuple[int, Any]:
    url = f"http://{daemon.document['http']['listen']}/v1/{path}"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, json=body) as answer,
    ):
        text = await answer.text()
        assert MARK not in text, path
        return answer.status, msgspec.json.decode(text)


def nothing_is_left(directory: Path) -> None:
    """Neither in logs nor in the state."""
    files = [*directory.glob("*.log"), *directory.glob("state.db*")]
    assert len(files) >= 2
    for path in files:
        assert MARK.encode() not in path.read_bytes(), path.name


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def kinds_of_secret(kind: object) -> set[str]:
    """Where settings of a type may hold a secret: `Struct.field`."""
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return {each for part in get_args(kind) for each in kinds_of_secret(part)}
    fields = msgspec.structs.fields(kind)
    own = {f"{kind.__name__}.{field.name}" for field in fields if field.type is Secret}
    parts = [*(field.type for field in fields), *variants().get(kind, {}).values()]
    return own.union(*map(kinds_of_secret, parts))


def secret_fields(value: object) -> set[str]:
    """Where these settings hold one."""
    if not isinstance(value, msgspec.Struct):
        return set()
    found = set()
    for name in value.__struct_fields__:
        part = getattr(value, name)
        if isinstance(part, Secret) and part.reveal():
            found.add(f"{type(value).__name__}.{name}")
        found |= secret_fields(part)
    return found


def test_every_setting_that_is_a_secret_is_spied_on() -> None:
    found = set()
    for stores in STORES.values():
        whole = {"name": "spied", "collections": [{"source": "A", "target": "copy"}], **stores}
        settings = from_toml(whole | UNREACHABLE, ENVIRONMENT, variants())
        found |= secret_fields(settings)
        # A `dsn` is one as a whole.
        secrets = set(secrets_of(settings)) - {stores["source"].get("dsn")}
        assert all(secret.startswith(MARK) for secret in secrets)
    assert "QdrantSettings.api_key" in found
    assert found == kinds_of_secret(Settings)


async def test_nothing_that_is_served_holds_a_credential(
    rig: Rig,
    stores: tuple[str, str],
    changelog: tuple[ChangelogSink, Document],
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    application = await rig.application(stores, sink, collections, records=20)
    daemon = spied(rig.daemon(stores, collections, feed), SECRETS)
    switch = (await rig.served(application))["switch"]  # which is asked at the capture
    spied(daemon, {"cutover": {"switch": {"url": f"{switch['url']}?key={MARK}-query"}}})
    await daemon.start()
    await daemon.phase("STREAMING")
    await sink.emit([(f"{collections[0].source}/1".encode(), b"no event")])
    await daemon.until(lambda status: status["stream"]["dead_letters"] == 1, "a dead letter")
    assert '"number":1' in (await look(daemon))["/v1/dead-letters"]
    assert (await post(daemon, "dead-letters/discard", numbers=[1]))[0] == 200
    await application.upsert(collections[0], 1)
    for code in ("hook-failed", "fence-failed"):
        assert (await post(daemon, "verify"))[1]["level"] == "full"

        async def refused() -> Any:
            status, document = await post(daemon, "cutover")
            assert status in (409, 503)
            found = document["error"]
            return found if found["code"] != "gate-closed" else None

        error = await until(refused, "the cutover is refused")
        assert error["code"] == code, error
        told = await look(daemon)
        assert msgspec.json.encode(error["message"])[1:-1].decode() in told["/v1/journal"]
        assert '"level":"full"' in told["/v1/report"]
        await daemon.child.terminate()
        daemon.document.pop("hooks", None)
        daemon.rewrite()
        if code == "hook-failed":
            await daemon.start()
            await daemon.phase("STREAMING")
    nothing_is_left(daemon.directory)


@pytest.mark.parametrize("stores", STORES.values(), ids=STORES)
async def test_nothing_is_told_of_stores_and_a_broker_that_cannot_be_reached(
    rig: Rig, stores: Document
) -> None:
    url = f"http://{NOBODY}"
    collections = underscored(rig.collections())
    collections[0].source = collections[0].source.capitalize()
    daemon = rig.daemon((url, url), collections, {"kind": "none"})
    daemon.document |= stores
    spied(daemon, UNREACHABLE)
    await daemon.start()
    await daemon.until(lambda status: bool(status["waits"]), "it says what it waits for")
    told = await look(daemon)
    assert NOBODY in told["/v1/status"]
    for command in ("check", "check --json", "plan", "status --json", "journal", "cutover"):
        _, out, err = await daemon.command(*command.split())
        assert out + err, command
        assert MARK not in out + err, command
    assert await daemon.child.terminate() in (0, 1)
    nothing_is_left(daemon.directory)
