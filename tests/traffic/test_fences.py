from __future__ import annotations

import pytest

from replicator.errors import Refused, ReplicatorError, Retryable, Unavailable
from replicator.model.fence import FenceAnswer
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


async def test_what_the_holder_says_of_its_fence_is_evidence(application: Application) -> None:
    gate = HttpFence(HttpSettings(url=application.url, token=Secret("a-secret-token")))
    application.body = (
        b'{"holder": "api a-secret-token", "closed_s": 1.5, "held_s": 30,'
        b' "writers": 4, "more": []}'
    )
    answer = await gate.close(60, "c/1")
    assert answer == FenceAnswer(holder="api ***", closed_s=1.5, held_s=30.0, writers=4)
    assert answer.evidence == {
        "holder": "api ***",
        "closed_s": 1.5,
        "held_s": 30.0,
        "writers": 4,
    }
    application.body = b'{"closed_s": 2}'
    assert (await gate.open("c/1")).evidence == {"closed_s": 2.0}


@pytest.mark.parametrize(
    "body", [b"", b"ok", b"[]", b"\xff", b'{"held_s": "long"}', b'{"writers": -1}']
)
async def test_a_holder_that_says_it_otherwise_is_believed_and_has_said_nothing(
    application: Application, body: bytes
) -> None:
    application.body = body
    assert await fence(application.url).close(10, "c/1") == FenceAnswer()


async def test_a_conflict_refuses_an_old_attempt_to_open(application: Application) -> None:
    application.status, application.body = 409, b"closed for c/2"
    with pytest.raises(Refused, match="409: closed for c/2") as refused:
        await fence(application.url).open("c/1")
    assert refused.value.code == "fence-held"


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
