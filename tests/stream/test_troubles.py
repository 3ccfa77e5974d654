from __future__ import annotations

import asyncio

import pytest

from replicator.errors import Refused, Unavailable
from replicator.settings.settings import StreamSettings
from replicator.settings.units import Duration
from replicator.stream.patience import Patience

AWAY = Unavailable("source-unavailable", "the source is away")


@pytest.fixture
def patience() -> Patience:
    return Patience(StreamSettings(backoff_min=Duration(0.001), backoff_max=Duration(0.001)))


async def test_one_who_is_answered_does_not_make_another_look_well(patience: Patience) -> None:
    back = asyncio.Event()

    async def away() -> str:
        if not back.is_set():
            raise AWAY
        return "here"

    async def there() -> str:
        return "there"

    waiting = asyncio.create_task(patience.until_answered(away))
    while patience.trouble is None:
        await asyncio.sleep(0)
    assert await patience.until_answered(there) == "there"
    assert patience.trouble is not None
    assert patience.trouble.code == "source-unavailable"

    back.set()
    assert await waiting == "here"
    assert patience.trouble is None


async def test_one_who_gives_up_takes_the_trouble_along(patience: Patience) -> None:
    async def refused() -> None:
        raise Refused("permission-denied", "not with this key")

    waiting = asyncio.create_task(patience.until_answered(refused))
    while patience.trouble is None:
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert patience.trouble is None


async def test_the_backoff_grows_to_its_limit_and_gives_way_to_what_the_peer_asks() -> None:
    patience = Patience(
        StreamSettings(backoff_min=Duration(0.001), backoff_max=Duration(0.003))
    )
    first = await patience.rest("me", AWAY)
    second = await patience.rest("me", AWAY, first)
    assert (first, second) == (0.002, 0.003)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await patience.rest("me", Unavailable("source-unavailable", "away", 0.05), 0.001)
    assert loop.time() - began >= 0.04
    patience.over("me")
    assert patience.trouble is None
