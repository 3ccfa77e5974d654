"""A fence and a switch that are a person's word: over HTTP, and on a terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import sys

from tests.endtoend.application import Application
from tests.endtoend.daemon import Daemon, Document
from tests.endtoend.events import ChangelogSink
from tests.endtoend.processes import WITHIN_S, until
from tests.endtoend.rig import Rig

Changelog = tuple[ChangelogSink, Document]


async def ready_to_cross(
    rig: Rig, stores: tuple[str, str], changelog: Changelog, **cutover: object
) -> tuple[Application, Daemon]:
    """A verified migration, whose fence and switch are manual unless said otherwise."""
    sink, feed = changelog
    collections = rig.collections()
    app = await rig.application(stores, sink, collections, records=50)
    daemon = rig.daemon(stores, collections, feed, cutover=cutover)
    await daemon.start()
    await daemon.phase("STREAMING")
    await daemon.did("verify", level="full")
    return app, daemon


async def asked(daemon: Daemon, words: str) -> str:
    """The question, once it is put."""

    def puts(status: Document) -> bool:
        fence = status["fence"]
        return fence is not None and words in (fence["question"] or "")

    status = await daemon.until(puts, f"the question {words!r}")
    question: str = status["fence"]["question"]
    return question


class Terminal:
    """A command of the replicator on a pseudo-terminal."""

    def __init__(self, daemon: Daemon, *arguments: str) -> None:
        self._arguments = [*arguments, "-c", str(daemon.config)]
        self.text = ""

    async def __aenter__(self) -> Terminal:
        self._ours, theirs = pty.openpty()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "replicator", *self._arguments),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        asyncio.get_running_loop().add_reader(self._ours, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        os.close(self._ours)

    def _read(self) -> None:
        try:
            self.text += os.read(self._ours, 65536).decode(errors="replace")
        except OSError:  # the other side is gone
            asyncio.get_running_loop().remove_reader(self._ours)

    async def answer(self, words: str, word: str) -> None:
        """Type a word once the terminal shows a question."""

        async def shown() -> bool:
            return words in self.text

        try:
            await until(shown, f"the terminal shows {words!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.text}") from None
        os.write(self._ours, f"{word}\n".encode())

    async def end(self) -> int:
        async with asyncio.timeout(WITHIN_S):
            return await self._process.wait()


async def test_a_person_answers_over_http(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    app, daemon = await ready_to_cross(rig, stores, changelog)
    crossing = asyncio.create_task(daemon.post("cutover"))
    await asked(daemon, "Have all writers")
    assert (await daemon.status())["application_may_write"] is None
    await daemon.did("answer", yes=True)
    await asked(daemon, "Send the traffic")
    assert (await daemon.status())["phase"] == "SWITCHING"
    app.active, app.epoch = "target", 1
    await daemon.did("answer", yes=True)
    await asked(daemon, "may start again")
    assert (await daemon.status())["application_may_write"] is None
    await daemon.did("answer", yes=True)
    assert await crossing == (200, {"blockers": []})

    assert (await daemon.status())["application_may_write"] == "target"
    await app.upsert(app.collections[0], 1)
    await daemon.applied(app.sink.ends)
    assert await app.differences("source") == []


async def test_a_person_answers_on_a_terminal(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    _, daemon = await ready_to_cross(rig, stores, changelog)
    async with Terminal(daemon, "cutover") as terminal:
        await terminal.answer("Have all writers", "maybe")
        await terminal.answer("[yes/no] maybe", "yes")
        await terminal.answer("Send the traffic", "yes")
        await terminal.answer("may start again", "yes")
        assert await terminal.end() == 0
        for step in ("fence", "drain", "recheck", "stragglers", "cutover: done"):
            assert step in terminal.text
    await daemon.phase("STREAMING", "reverse")
    async with Terminal(daemon, "revert") as terminal:
        await terminal.answer("Have all writers", "no")
        await terminal.answer("may start again", "y")
        assert await terminal.end() == 2
        assert "declined" in terminal.text
    status = await daemon.phase("STREAMING", "reverse")
    assert status["application_may_write"] == "target"


async def test_a_switch_that_a_person_declines_is_held_until_a_person_says_where(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    app, daemon = await ready_to_cross(rig, stores, changelog)
    crossing = asyncio.create_task(daemon.post("cutover"))
    await asked(daemon, "Have all writers")
    await daemon.did("answer", yes=True)
    while not crossing.done():
        status = await daemon.status()
        if (status["fence"] or {}).get("question"):
            await daemon.post("answer", yes=False)
    assert (await crossing)[1]["error"]["code"] == "ownership-unknown"
    await daemon.phase("HELD")

    code, _, err = await daemon.command("own", "source")
    assert code == 0, err
    await asked(daemon, "may start again")
    await daemon.did("answer", yes=True)
    status = await daemon.until(
        lambda status: status["application_may_write"] == "source", "the source is ours again"
    )
    assert (status["phase"], status["direction"]) == ("STREAMING", "forward")
    await app.upsert(app.collections[0], 1)
    await daemon.applied(app.sink.ends)
    assert await app.differences("target") == []


async def test_a_question_nobody_answers_ends_with_the_attempt_and_the_fence_waits_for_a_word(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    _, daemon = await ready_to_cross(rig, stores, changelog)
    status, document = await daemon.post("cutover", timeout_s=1.5)
    assert (status, document["error"]["code"]) == (409, "cutover-timeout")
    await asked(daemon, "may start again")
    closed = await daemon.status()
    assert (closed["phase"], closed["application_may_write"]) == ("STREAMING", None)
    daemon.kill()
    await daemon.start()
    await asked(daemon, "may start again")
    await daemon.did("answer", yes=True)
    await daemon.until(lambda s: s["application_may_write"] == "source", "a person opened it")


async def test_an_enforced_fence_opens_when_the_attempt_runs_out_of_time(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    app = await rig.application(stores, sink, collections, records=50)
    served = await rig.served(app)
    daemon = rig.daemon(
        stores,
        collections,
        feed,
        cutover=served,
        # A step that takes longer than the attempt may.
        hooks={"after_fence": {"command": ["sleep", "30"], "timeout": "1m"}},
    )
    await daemon.start()
    await daemon.phase("STREAMING")
    await daemon.did("verify", level="full")

    code, _, err = await daemon.command("cutover", "--timeout", "2s")

    assert code == 2
    assert "cutover-timeout" in err
    await daemon.until(lambda s: s["application_may_write"] == "source", "the fence is open")
    assert app.closings == 1
    assert not app.fenced
    await app.upsert(collections[0], 3)
    await daemon.applied(sink.ends)
    assert await app.differences("target") == []


async def test_a_daemon_killed_behind_its_fence_opens_it_at_its_next_start(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    app = await rig.application(stores, sink, collections, records=50)
    daemon = rig.daemon(
        stores,
        collections,
        feed,
        cutover=await rig.served(app),
        hooks={"after_fence": {"command": ["sleep", "30"], "timeout": "1m"}},
    )
    await daemon.start()
    await daemon.phase("STREAMING")
    await daemon.did("verify", level="full")
    crossing = asyncio.create_task(daemon.post("cutover"))

    async def closed() -> bool:
        return app.fenced

    await until(closed, "the fence is closed")
    daemon.kill()
    assert (await crossing)[0] == 0

    await daemon.start()
    await daemon.until(lambda s: s["application_may_write"] == "source", "the fence is open")
    assert not app.fenced
    assert app.active == "source"


async def test_a_dry_run_prints_every_blocker(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    await rig.application(stores, sink, collections, records=50)
    daemon = rig.daemon(
        stores,
        collections,
        feed,
        cutover={"timeout": "1s", "delivery_timeout": "5s", "lag_records_max": 3},
    )
    await daemon.start()
    await daemon.phase("STREAMING")
    await daemon.did("pause")
    await sink.emit([(f"{collections[0].source}/{n}".encode(), b"{") for n in range(9)])
    await daemon.until(lambda status: status["lag"]["records"] == 9, "nine records behind")

    code, out, _ = await daemon.command("cutover", "--dry-run", "--json")
    assert code == 2
    for blocker in ("paused", "lag", "not-verified", "timeout-short"):
        assert f'"{blocker}"' in out
    code, out, _ = await daemon.command("cutover", "--dry-run")
    assert code == 2
    for words in ("is paused", "9 records", "no full verification", "the attempt may take"):
        assert words in " ".join(out.split())

    await daemon.did("resume")
    await daemon.applied(sink.ends)
    code, out, _ = await daemon.command("cutover", "--dry-run", "--timeout", "1m", "--json")
    assert '"dead-letters"' in out
    await daemon.did("verify", level="full")
    code, out, _ = await daemon.command(
        "cutover", "--dry-run", "--timeout", "1m", "--waive-dead-letters"
    )
    assert (code, out) == (0, "the gate is open; next: replicator cutover\n")


async def test_a_cutover_without_a_terminal_is_refused_before_the_fence_closes(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    _, daemon = await ready_to_cross(rig, stores, changelog)
    code, _, err = await daemon.command("cutover")
    assert code == 2
    assert "--yes answers for scripts" in err
    assert (await daemon.status())["application_may_write"] == "source"

    code, _, err = await daemon.command("cutover", "--yes")
    assert code == 0, err
    assert (await daemon.status())["application_may_write"] == "target"
