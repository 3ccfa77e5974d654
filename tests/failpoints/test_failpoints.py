"""Failpoints do what they say, only where they are told to, and nothing is left out."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicator import failpoints
from replicator.errors import Fatal, Refused

SHIPPED = Path(failpoints.__file__).parent
PLACE = "backfill.after-write"


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_every_place_stands_in_the_code_once_and_no_other_does() -> None:
    called = [
        place
        for path in SHIPPED.rglob("*.py")
        for place in re.findall(r'failpoints\.reached\("([^"]*)"\)', path.read_text("utf-8"))
    ]
    assert sorted(called) == sorted(failpoints.PLACES)


async def test_a_process_that_was_told_of_none_passes_everywhere() -> None:
    assert failpoints.arm("") == []
    for place in failpoints.PLACES:
        await failpoints.reached(place)


async def test_a_place_fails_and_the_others_are_passed() -> None:
    assert failpoints.arm(f"{PLACE}=fail") == [PLACE]
    await failpoints.reached("backfill.before-write")
    for _ in range(2):
        with pytest.raises(Fatal, match=PLACE) as caught:
            await failpoints.reached(PLACE)
        assert caught.value.code == "failpoint"


async def test_the_third_time_is_the_third_time() -> None:
    failpoints.arm(f"{PLACE}=fail@3")
    await failpoints.reached(PLACE)
    await failpoints.reached(PLACE)
    with pytest.raises(Fatal):
        await failpoints.reached(PLACE)


async def test_a_place_hangs_until_it_is_cancelled() -> None:
    failpoints.arm(f"{PLACE}=hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await failpoints.reached(PLACE)


def test_a_place_dies_as_by_kill() -> None:
    script = (
        "import asyncio; from replicator import failpoints;"
        f"failpoints.arm('{PLACE}=die'); asyncio.run(failpoints.reached('{PLACE}'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert b"failpoint reached" in done.stdout


@pytest.mark.parametrize(
    "told",
    [
        "nowhere.at-all=die",
        f"{PLACE}=explode",
        PLACE,
        f"{PLACE}=die@0",
        f"{PLACE}=die@x",
        "=die",
    ],
)
def test_what_does_not_exist_is_refused(told: str) -> None:
    with pytest.raises(Refused) as caught:
        failpoints.arm(f"stream.after-write=hang; {told}")
    assert caught.value.code == "config-invalid"


def test_several_places_are_armed_at_once() -> None:
    told = "stream.after-write=hang; verify.before-complete=fail\nrepair.holding=die@2"
    assert failpoints.arm(told) == [
        "stream.after-write",
        "verify.before-complete",
        "repair.holding",
    ]
