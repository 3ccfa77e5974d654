from __future__ import annotations

import pytest

from replicator.errors import Refused, ReplicatorError, Retryable, Unavailable
from replicator.settings.cutover import HttpSettings
from replicator.settings.units import Duration, Secret
from replicator.traffic.fences import HttpFence
from tests.traffic.application import Application


def fence(url: str, timeout_s: float = 10.0) -> HttpFence:
    return HttpFence(HttpSettings(url=url, token=Secret("t0k"), timeout=Duration(timeout_s)))


async def test_closing_and_opening_follow_the_protocol(application: Application) -> None:
    gate = fence(application.url)
    await gate.close(42.5, "c/1")
    await gate.open("c/1")
    assert application.received == [
        ("POST", {"action": "close", "deadline_s": 42.5, "attempt": "c/1"}),
        ("POST", {"action": "open", "attempt": "c/1"}),
    ]
    assert application.authorization == "Bearer t0k"
    assert not gate.rests_on_word


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, Refused),
        (401, Refused),
        (409, Refused),
        (500, Refused),
        (429, Retryable),
        (503, Retryable),
    ],
)
async def test_a_fence_that_says_no_has_failed(
    application: Application, status: int, kind: type[ReplicatorError]
) -> None:
    application.status, application.body = status, b"writer 3 does not answer"
    with pytest.raises(kind, match=f"{status}: writer 3 does not answer") as failed:
        await fence(application.url).close(10, "c/1")
    assert failed.value.code == "fence-failed"
    assert len(application.received) == 1, "a redirect is not followed"


async def test_a_fence_that_does_not_answer_in_time_has_failed(
    application: Application,
) -> None:
    application.mood = "hang"
    for gate, deadline_s in ((fence(application.url, 0.2), 60), (fence(application.url), 0.2)):
        with pytest.raises(Retryable, match="no reply within") as failed:
            await gate.close(deadline_s, "c/1")
        assert failed.value.code == "fence-failed"


@pytest.mark.parametrize("mood", ["drop", "half"])
async def test_a_fence_whose_reply_is_lost_has_failed(
    application: Application, mood: str
) -> None:
    application.mood = mood
    with pytest.raises(Retryable) as failed:
        await fence(application.url).close(10, "c/1")
    assert failed.value.code == "fence-failed"


async def test_a_fence_that_is_away_is_unavailable_and_no_secret_is_shown(nobody: str) -> None:
    with pytest.raises(Unavailable) as failed:
        await HttpFence(HttpSettings(url=nobody)).close(10, "c/1")
    assert failed.value.code == "fence-failed"
    assert "127.0.0.1" in failed.value.message
    assert "secret" not in failed.value.message


async def test_a_token_and_a_user_in_the_url_exclude_each_other(nobody: str) -> None:
    with pytest.raises(Refused, match="exclude each other") as failed:
        await fence(nobody).close(10, "c/1")
    assert "secret" not in failed.value.message
    assert "t0k" not in failed.value.message


async def test_a_url_that_is_none_is_refused() -> None:
    for url in ("ftp://somewhere/gate", "nowhere", "http://["):
        with pytest.raises(Refused) as failed:
            await fence(url).close(10, "c/1")
        assert failed.value.code == "fence-failed"
