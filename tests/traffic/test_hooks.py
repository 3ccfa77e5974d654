from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from replicator.errors import Refused
from replicator.model.phase import Direction
from replicator.settings.cutover import HookSettings, HooksSettings
from replicator.settings.units import Duration
from replicator.traffic.hooks import Hooks
from tests.traffic.application import Application


def hooks(command: list[str] | None = None, url: str = "", timeout_s: float = 30.0) -> Hooks:
    hook = HookSettings(command=command, url=url, timeout=Duration(timeout_s))
    return Hooks(HooksSettings(before_fence=hook), "articles")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def run(hooked: Hooks) -> None:
    await hooked.run("before_fence", Direction.FORWARD)


async def failure(hooked: Hooks) -> str:
    with pytest.raises(Refused) as refused:
        await run(hooked)
    assert refused.value.code == "hook-failed"
    return refused.value.message


async def test_a_step_without_a_hook_does_nothing() -> None:
    await hooks(["/no/such/program"]).run("after_open", Direction.FORWARD)


async def test_a_command_knows_step_name_and_direction_and_no_shell_reads_it(
    tmp_path: Path,
) -> None:
    code = (
        "import os, sys; open(sys.argv[1], 'w').write("
        "' '.join([os.environ['REPLICATOR_' + n] for n in ('STEP', 'NAME', 'DIRECTION')]"
        " + sys.argv[2:]))"
    )
    out = tmp_path / "out"
    await run(hooks([*python(code), str(out), "$HOME; *"]))
    assert out.read_text() == "before_fence articles forward $HOME; *"


async def test_a_failing_command_shows_its_last_words() -> None:
    code = "import sys; sys.stderr.write('x' * 5000 + 'the end\\n'); sys.exit(3)"
    message = await failure(hooks(python(code)))
    assert message.startswith("hook before_fence: exit status 3: xxx")
    assert message.endswith("the end")
    assert len(message) < 2100


@pytest.mark.parametrize("filler", [0, 1990])
async def test_what_a_command_was_given_is_hidden_where_it_repeats_it(filler: int) -> None:
    code = (
        "import sys; sys.stderr.write('at https://me:t0p-word@app/x?k=v denied: '"
        " f'{sys.argv[1:-1]} ' + 'x' * int(sys.argv[-1])); sys.exit(1)"
    )
    given = ["--key=t0p-secret", "t0p-other", "-v", str(filler)]
    message = await failure(hooks([*python(code), *given]))
    assert "t0p" not in message
    assert "op-" not in message
    assert ("https://***@app/x?*** denied: ['***', '***', '-v']" in message) == (not filler)


async def test_a_command_that_cannot_be_run_has_failed() -> None:
    assert "/no/such/program" in await failure(hooks(["/no/such/program"]))


FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(f"family {os.getpid()} {child.pid}", file=sys.stderr, flush=True)
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
os.rename(sys.argv[1], sys.argv[1] + ".done")
time.sleep(600)
"""


async def until_gone(pids: list[int]) -> None:
    """A killed orphan is there until init has reaped it."""
    async with asyncio.timeout(20):
        for pid in pids:
            while Path(f"/proc/{pid}/stat").exists():
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    break
                await asyncio.sleep(0)


async def test_a_command_over_its_time_is_killed_with_what_it_started(tmp_path: Path) -> None:
    message = await failure(hooks([*python(FAMILY), str(tmp_path / "pids")], timeout_s=3))
    assert "not done after 3s" in message
    pids = [int(word) for word in message.rpartition("family ")[2].split()]
    assert len(pids) == 2
    await until_gone(pids)


async def test_a_command_nobody_waits_for_any_more_is_killed(tmp_path: Path) -> None:
    task = asyncio.create_task(run(hooks([*python(FAMILY), str(tmp_path / "pids")])))
    async with asyncio.timeout(20):
        while not (tmp_path / "pids.done").exists():
            await asyncio.sleep(0.01)
    pids = [int(word) for word in (tmp_path / "pids.done").read_text().split()]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_gone(pids)


async def test_a_command_that_leaves_a_process_behind_is_done_when_it_ends(
    tmp_path: Path,
) -> None:
    """The child holds standard error open; a hook that waited for its end would hang."""
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(600)']); open(sys.argv[1], 'w').write(str(p.pid))"
    )
    out = tmp_path / "pid"
    await run(hooks([*python(code), str(out)]))
    os.kill(int(out.read_text()), signal.SIGKILL)


async def test_a_url_gets_step_name_and_direction(application: Application) -> None:
    await run(hooks(url=application.url))
    body = {"step": "before_fence", "name": "articles", "direction": "forward"}
    assert application.received == [("POST", body)]


async def test_a_url_that_says_no_or_nothing_has_failed(
    application: Application, nobody: str
) -> None:
    application.status, application.body = 418, b"not today"
    assert "status 418: not today" in await failure(hooks(url=application.url))
    application.body = b"no such key: t0p-key"
    assert "status 418: no such key: ***" in await failure(
        hooks(url=application.url + "?key=t0p-key")
    )
    application.mood = "hang"
    assert "no reply within" in await failure(hooks(url=application.url, timeout_s=0.2))
    assert "secret" not in await failure(hooks(url=nobody))
