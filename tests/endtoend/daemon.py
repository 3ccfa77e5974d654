"""The replicator as a child process: its configuration file, its HTTP, its end."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from tests.endtoend.processes import WITHIN_S, Child, free_port, until

Document = dict[str, Any]


def toml(document: Document) -> str:
    """A document of nested tables as TOML; lists of tables are written inline."""
    lines: list[str] = []

    def table(path: str, content: Document) -> None:
        if path:
            lines.append(f"[{path}]")
        lines.extend(
            f"{json.dumps(name)} = {_value(each)}"
            for name, each in content.items()
            if not isinstance(each, dict)
        )
        for name, each in content.items():
            if isinstance(each, dict):
                table(f"{path}.{name}" if path else name, each)

    table("", document)
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + " }"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


def merged(base: Document, more: Document) -> Document:
    result = dict(base)
    for name, value in more.items():
        old = result.get(name)
        result[name] = (
            merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return result


def settings(
    directory: Path,
    *,
    source: str,
    target: str,
    collections: list[Document],
    feed: Document,
    **more: Any,
) -> Document:
    """A configuration with the short times of one machine."""
    return merged(
        {
            "name": f"t{directory.name[-40:].replace('_', '-')}".strip("-"),
            "source": {"kind": "qdrant", "url": source, "late_write_bound": "500ms"},
            "target": {"kind": "qdrant", "url": target, "late_write_bound": "500ms"},
            "collections": collections,
            "feed": feed if feed["kind"] == "none" else {"settle": "300ms", **feed},
            "state": {"path": str(directory / "state.db")},
            "stream": {
                "commit_interval": "200ms",
                "backoff_max": "500ms",
                "drain_timeout": "5s",
            },
            "http": {"listen": f"127.0.0.1:{free_port()}"},
            "cutover": {"timeout": "60s", "delivery_timeout": "200ms"},
            "log": {"format": "json", "interval": "10s"},
        },
        more,
    )


_PASSING = {"lag", "lag-unknown"}
"""Blockers of a gate that time alone opens."""


class Daemon:
    """`python -m replicator run`, again and again on one configuration."""

    def __init__(self, directory: Path, document: Document) -> None:
        self.directory = directory
        self.document = document
        self.config = directory / "replicator.toml"
        self.rewrite()
        self._url = f"http://{document['http']['listen']}"
        self._child: Child | None = None
        self.starts = 0
        self.within_s = WITHIN_S
        """How long a step may take."""

    # -- the process
    # -----------------------------------------------------------------------------------

    def rewrite(self) -> None:
        """Write the configuration file from `document`."""
        self.config.write_text(toml(self.document), encoding="utf-8")

    def spawn(self, *options: str) -> None:
        self.starts += 1
        log = self.directory / f"daemon-{self.starts}.log"
        self._child = Child(["-m", "replicator", "run", "-c", str(self.config), *options], log)
        self._child.start()

    async def start(self, *options: str) -> None:
        """Start it, and wait until its HTTP answers."""
        self.spawn(*options)
        await self.until(bool, "the daemon answers")

    @property
    def child(self) -> Child:
        assert self._child is not None
        return self._child

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    async def run(self, *options: str) -> int:
        """Run it to its end; the exit code."""
        self.spawn(*options)
        return await self.child.end(self.within_s)

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        """Another `replicator` command on the same configuration: exit code and output."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "replicator", *arguments, "-c", str(self.config)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(self.within_s):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    # -- its HTTP
    # --------------------------------------------------------------------------------------

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and document; 0 while nobody answers."""
        return await self._request("GET", path, None)

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        return await self._request("POST", f"/v1/{path}", body)

    async def did(self, path: str, **body: Any) -> Any:
        """POST what must succeed."""
        status, document = await self.post(path, **body)
        assert status == 200, f"{path}: {document}\n{self.child.tail()}"
        return document

    async def crossed(self, command: str) -> None:
        """Cut over or revert, as soon as the lag of busy writers lets it."""

        async def crossed() -> bool:
            status, document = await self.post(command)
            if status == 409 and document["error"]["code"] == "gate-closed":
                blockers = (await self.status())["blockers"]
                assert {each["code"] for each in blockers} <= _PASSING, blockers
                return False
            assert status == 200, f"{command}: {document}\n{self.child.tail()}"
            return True

        await until(crossed, f"{command} is done", self.within_s)

    async def status(self) -> Document:
        """Empty while nobody answers, or the migration has not begun."""
        code, document = await self.get("/v1/status")
        return document if code == 200 else {}

    async def letters(self) -> list[Document]:
        """The open dead letters."""
        status, document = await self.get("/v1/dead-letters?state=open&limit=1000")
        assert status == 200
        found: list[Document] = document["letters"]
        return found

    async def metric(self, name: str) -> float:
        async with self._session() as session, session.get(f"{self._url}/metrics") as answer:
            text = await answer.text()
        found = re.search(rf"^replicator_{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        assert found is not None, f"no metric {name}"
        return float(found[1])

    async def _request(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        try:
            async with (
                self._session() as session,
                session.request(method, self._url + path, json=body) as answer,
            ):
                return answer.status, await answer.json()
        except (aiohttp.ClientConnectionError, ConnectionError):
            return 0, None

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.within_s))

    # -- waiting
    # ---------------------------------------------------------------------------------------

    async def until(
        self, true: Callable[[Document], bool], what: str, within_s: float | None = None
    ) -> Document:
        """The status once it fulfils a condition."""
        last: Document = {}

        async def look() -> Document | None:
            nonlocal last
            last = await self.status()
            if last and true(last):
                return last
            assert self.child.running, f"the daemon ended: {self.child.tail()}"
            return None

        try:
            found: Document = await until(look, what, within_s or self.within_s)
        except AssertionError as error:
            told = json.dumps(last, indent=1)
            raise AssertionError(f"{error}\n{told}\n{self.child.tail()}") from None
        return found

    async def phase(self, name: str, direction: str = "forward") -> Document:
        return await self.until(
            lambda status: (status["phase"], status["direction"]) == (name, direction),
            f"phase {name}, {direction}",
        )

    async def applied(self, ends: dict[str, int]) -> Document:
        """Once everything below these ends is applied and persisted."""
        return await self.until(
            lambda status: (
                ends.items()
                <= {
                    row["partition"]: min(row["committed"] or 0, ends.get(row["partition"], 0))
                    for row in status["partitions"]
                }.items()
            ),
            f"applied up to {ends}",
        )

    async def not_ready(self, code: str) -> str:
        """Once /readyz names a reason; its message."""

        async def look() -> str | None:
            status, document = await self.get("/readyz")
            if status != 503:
                return None
            reasons = {each["code"]: each["message"] for each in document["reasons"]}
            return reasons.get(code)

        found: str = await until(look, f"/readyz says {code}: {await self.get('/readyz')}")
        return found

    async def ready(self) -> None:
        async def look() -> bool:
            return (await self.get("/readyz"))[0] == 200

        try:
            await until(look, "/readyz says yes")
        except AssertionError as error:
            raise AssertionError(f"{error} {await self.get('/readyz')}") from None
