from __future__ import annotations

import pytest

from replicator.errors import OutcomeUnknown, Refused, ReplicatorError, Retryable, Unavailable
from replicator.model.phase import Direction
from replicator.ports.traffic import Pointer
from replicator.settings.cutover import HttpSettings
from replicator.settings.transform import CollectionSettings
from replicator.settings.units import Duration
from replicator.traffic.switches import AliasSwitch, HttpSwitch
from tests.traffic.application import Application

FORWARD, REVERSE = Direction.FORWARD, Direction.REVERSE


def switch(url: str, timeout_s: float = 10.0) -> HttpSwitch:
    return HttpSwitch(HttpSettings(url=url, timeout=Duration(timeout_s)))


async def test_switching_follows_the_protocol(application: Application) -> None:
    traffic = switch(application.url)
    await traffic.to(REVERSE, 1)
    await traffic.to(FORWARD, 2)
    assert application.received == [
        ("POST", {"to": "target", "epoch": 1}),
        ("POST", {"to": "source", "epoch": 2}),
    ]
    assert application.authorization is None
    assert traffic.repeatable


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Refused),
        (302, Refused),
        (429, Retryable),
        (503, Retryable),
        (500, OutcomeUnknown),
        (502, OutcomeUnknown),
    ],
)
async def test_what_a_failed_switch_may_have_done_is_told_by_its_status(
    application: Application, status: int, kind: type[ReplicatorError]
) -> None:
    application.status = status
    with pytest.raises(kind) as failed:
        await switch(application.url).to(REVERSE, 1)
    assert type(failed.value) is kind
    assert failed.value.code == "switch-failed"


@pytest.mark.parametrize("mood", ["drop", "half", "hang"])
async def test_a_lost_reply_leaves_the_outcome_unknown(
    application: Application, mood: str
) -> None:
    application.mood = mood
    with pytest.raises(OutcomeUnknown) as failed:
        await switch(application.url, 0.3 if mood == "hang" else 10).to(REVERSE, 1)
    assert failed.value.code == "switch-failed"
    assert len(application.received) == 1


async def test_a_switch_that_is_away_did_nothing(nobody: str) -> None:
    with pytest.raises(Unavailable):
        await switch(nobody).to(REVERSE, 1)
    with pytest.raises(Unavailable):
        await switch(nobody).current()


@pytest.mark.parametrize(
    ("status", "body", "current"),
    [
        (200, b'{"active": "source"}', Pointer(FORWARD)),
        (200, b'{"active": "target", "epoch": 5, "since": 5}', Pointer(REVERSE, 5)),
        (200, b'{"active": "both"}', None),
        (200, b'{"active": 1}', None),
        (200, b"<html>", None),
        (404, b"", None),
        (405, b'{"active": "source"}', None),
    ],
)
async def test_the_switch_is_read_or_it_is_not(
    application: Application, status: int, body: bytes, current: Pointer | None
) -> None:
    application.status, application.body = status, body
    assert await switch(application.url).current() == current
    assert application.received == [("GET", None)]


async def test_a_busy_switch_cannot_be_read_now(application: Application) -> None:
    application.status = 503
    with pytest.raises(Retryable):
        await switch(application.url).current()


class Aliases:
    """A store's aliases; pointing one at a collection that `broken` names fails."""

    def __init__(self) -> None:
        self.at: dict[str, str] = {"a_live": "a", "b_live": "b"}
        self.broken: dict[str, ReplicatorError] = {}

    async def point_alias(self, alias: str, collection: str) -> None:
        if collection in self.broken:
            raise self.broken[collection]
        self.at[alias] = collection

    async def read_alias(self, alias: str) -> str | None:
        return self.at.get(alias)


COLLECTIONS = [
    CollectionSettings(source="a", target="a2"),
    CollectionSettings(source="b", target="b2"),
]


def aliased(store: Aliases) -> AliasSwitch:
    return AliasSwitch(store, ["a_live", "b_live"], COLLECTIONS)


async def test_aliases_move_to_the_targets_and_back() -> None:
    store = Aliases()
    traffic = aliased(store)
    assert await traffic.current() == Pointer(FORWARD)
    for _ in range(2):
        await traffic.to(REVERSE, 1)
        assert store.at == {"a_live": "a2", "b_live": "b2"}
        assert await traffic.current() == Pointer(REVERSE)
    await traffic.to(FORWARD, 2)
    assert store.at == {"a_live": "a", "b_live": "b"}


async def test_aliases_that_do_not_agree_tell_no_direction() -> None:
    store = Aliases()
    store.at["b_live"] = "b2"
    assert await aliased(store).current() is None
    del store.at["b_live"]
    assert await aliased(store).current() is None


async def test_a_switch_that_failed_half_way_has_an_unknown_outcome_and_can_be_repeated() -> (
    None
):
    store = Aliases()
    traffic = aliased(store)
    store.broken = {"b2": Refused("not-found", "no collection b2")}
    with pytest.raises(OutcomeUnknown, match="a_live moved and b_live did not") as failed:
        await traffic.to(REVERSE, 1)
    assert failed.value.code == "switch-failed"
    store.broken = {"a2": Unavailable("store-unavailable", "away")}
    with pytest.raises(Unavailable):
        await traffic.to(REVERSE, 1)
    store.broken = {}
    await traffic.to(REVERSE, 1)
    assert await traffic.current() == Pointer(REVERSE)


@pytest.mark.parametrize("aliases", [[], ["a_live"], ["same", "same"]])
def test_every_collection_has_an_alias_of_its_own(aliases: list[str]) -> None:
    with pytest.raises(Refused) as refused:
        AliasSwitch(Aliases(), aliases, COLLECTIONS)
    assert refused.value.code == "config-invalid"


@pytest.mark.parametrize("taken", ["a", "b2"])
def test_an_alias_that_the_migration_copies_by_is_not_moved(taken: str) -> None:
    """The reverse stream would follow it, and write the store that the application is on."""
    with pytest.raises(Refused, match=f"aliases: {taken} is what") as refused:
        AliasSwitch(Aliases(), [taken, "b_live"], COLLECTIONS)
    assert refused.value.code == "config-invalid"
