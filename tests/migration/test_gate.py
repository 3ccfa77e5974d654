"""The gate: each reason appears with its fact and goes away with it; nothing else closes it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from replicator.errors import Refused
from replicator.migration.cutover.gate import BLOCKERS, GateFacts, closed_by
from replicator.model.command import Acknowledge, Cutover, Revert
from replicator.model.fact import Fact, FactCode
from replicator.model.finding import Blocker
from replicator.model.phase import Direction, Phase
from replicator.model.status import LagStatus
from replicator.settings.cutover import CutoverSettings
from replicator.settings.units import Duration
from tests.migration.rig import World
from tests.stream.rig import virtual


def latched(code: FactCode) -> Fact:
    return Fact(code=code, message="seen by a test", at=1.0)


OPEN = GateFacts(
    phase=Phase.STREAMING,
    direction=Direction.FORWARD,
    paused=False,
    lag=LagStatus(records=1000, seconds=10.0),
    latched=[],
    open_letters=0,
    waive_dead_letters=False,
    verified_at=1000.0,
    findings=0,
    misconfigured=0,
    below=[],
    waive_recall=False,
    lossy=[],
    shows_after_s=0.0,
    needed_s=60.0,
    timeout_s=60.0,
    now=1000.0 + 86400.0,
    trouble=None,
)
SETTINGS = CutoverSettings()

CLOSED: list[tuple[str, dict[str, Any]]] = [
    ("phase", {"phase": Phase.REPLAY}),
    ("phase", {"phase": Phase.FENCING}),
    ("paused", {"paused": True}),
    ("lag-unknown", {"lag": LagStatus()}),
    ("lag-unknown", {"lag": LagStatus(records=None, seconds=0.0)}),
    ("lag-unknown", {"lag": LagStatus(records=0, seconds=None)}),
    ("lag-unknown", {"lag": LagStatus(records=0, seconds=0.0, unknown_partitions=1)}),
    ("lag", {"lag": LagStatus(records=1001, seconds=0.0)}),
    ("lag", {"lag": LagStatus(records=1, seconds=10.1)}),
    *((code.value, {"latched": [latched(code)]}) for code in FactCode),
    ("dead-letters", {"open_letters": 1}),
    ("not-verified", {"verified_at": None}),
    ("verification-old", {"now": 1000.0 + 86400.5}),
    ("findings", {"findings": 1}),
    ("configuration", {"misconfigured": 1}),
    ("recall", {"below": ["books: recall@10 is 0.110"]}),
    ("way-back-lossy", {"lossy": ["books: drop"]}),
    ("timeout-short", {"timeout_s": 59.0}),
    ("store-away", {"trouble": Blocker("target-unavailable", "the target is away")}),
]
OF_THE_CROSSING = {"busy", "no-feed", "identity"}
REVERSE_TOO = {
    "phase",
    "paused",
    "lag-unknown",
    "lag",
    *(code.value for code in FactCode),
    "dead-letters",
    "timeout-short",
    "store-away",
}


def codes(facts: GateFacts, settings: CutoverSettings = SETTINGS) -> list[str]:
    return [blocker.code for blocker in closed_by(facts, settings)]


def test_the_gate_is_open_at_every_limit() -> None:
    assert codes(OPEN) == []


@pytest.mark.parametrize(("code", "fact"), CLOSED)
def test_each_fact_closes_the_gate_with_its_own_reason_alone(
    code: str, fact: dict[str, Any]
) -> None:
    assert codes(msgspec.structs.replace(OPEN, **fact)) == [code]


@pytest.mark.parametrize(("code", "fact"), CLOSED)
def test_a_revert_is_asked_for_lag_ownership_and_its_letters_only(
    code: str, fact: dict[str, Any]
) -> None:
    facts = msgspec.structs.replace(OPEN, **{**fact, "direction": Direction.REVERSE})
    assert codes(facts) == ([code] if code in REVERSE_TOO else [])


def test_every_reason_that_is_documented_is_tested_here() -> None:
    assert {code for code, _ in CLOSED} | OF_THE_CROSSING == BLOCKERS.keys()


def test_every_reason_is_given_at_once() -> None:
    facts = msgspec.structs.replace(
        OPEN, paused=True, latched=[latched(FactCode.MISPLACED)], findings=3
    )
    assert codes(facts) == ["paused", "misplaced-keys", "findings"]


def test_what_is_latched_is_named_with_what_was_seen() -> None:
    facts = msgspec.structs.replace(OPEN, latched=[latched(FactCode.INTRUDER)])
    [blocker] = closed_by(facts, SETTINGS)
    assert "seen by a test" in blocker.message


def test_dead_letters_are_waived_by_name() -> None:
    assert codes(msgspec.structs.replace(OPEN, open_letters=3, waive_dead_letters=True)) == []


def test_searches_that_fall_short_are_waived_by_name_and_their_settings_are_not() -> None:
    facts = msgspec.structs.replace(OPEN, below=["books: recall@10 is 0.110"], misconfigured=2)
    assert codes(facts) == ["configuration", "recall"]
    assert codes(msgspec.structs.replace(facts, waive_recall=True)) == ["configuration"]


def test_a_lossy_way_back_is_waived_in_the_settings() -> None:
    facts = msgspec.structs.replace(OPEN, lossy=["books: drop"])
    assert codes(facts, CutoverSettings(way_back_lossy=True)) == []


def test_the_time_that_a_patch_may_wait_for_its_image_is_no_lag() -> None:
    facts = msgspec.structs.replace(
        OPEN, lag=LagStatus(records=1, seconds=69.0), shows_after_s=60.0
    )
    assert codes(facts) == []
    assert codes(msgspec.structs.replace(facts, shows_after_s=58.0)) == ["lag"]


def test_the_limits_are_those_of_the_settings() -> None:
    settings = CutoverSettings(
        lag_records_max=1, lag_seconds_max=Duration(1), verify_age_max=Duration(1)
    )
    assert codes(OPEN, settings) == ["lag", "verification-old"]


# -- the facts, from a migration that runs ---------------------------------------------------


async def blockers(world: World, **request: Any) -> list[str]:
    found = await world.migration.do(Cutover(dry_run=True, **request))
    return [blocker.code for blocker in found]


@virtual
async def test_a_migration_is_not_cut_over_before_it_is_verified() -> None:
    world = World()
    world.seed(1, 2)
    async with world.running():
        assert await blockers(world) == ["not-verified"]
        with pytest.raises(Refused) as caught:
            await world.migration.do(Cutover())
        assert caught.value.code == "gate-closed"
        assert world.fence.calls == []
        await world.verify()
        assert await blockers(world) == []
        assert (await world.migration.status()).can_cutover


@virtual
async def test_a_plain_copy_has_nothing_to_cut_over() -> None:
    world = World(feed=False)
    world.seed(*range(200))
    async with world.running(phase=Phase.COMPLETE):
        assert "no-feed" in await blockers(world)


@virtual
async def test_the_gate_is_closed_while_something_else_is_under_way() -> None:
    world = World(verify={"rate_max": 50.0})
    world.seed(*range(200))
    async with world.running():
        verifying = asyncio.create_task(world.verify())
        await asyncio.sleep(1)
        assert "busy" in await blockers(world)
        await verifying
        assert await blockers(world) == []


@virtual
async def test_the_gate_is_closed_until_the_fence_of_a_failed_attempt_is_open() -> None:
    world = World()
    world.hooks.errors["after_fence"] = Refused("hook-failed", "no")
    world.fence.open_errors.extend([Refused("fence-failed", "it sticks")] * 3)
    async with world.running():
        await world.verify()
        with pytest.raises(Refused):
            await world.migration.do(Cutover())
        assert "busy" in await blockers(world)
        await world.until(lambda: not world.record.fence_closed)
        assert await blockers(world) == []


@virtual
async def test_a_cutover_on_the_target_and_a_revert_on_the_source_are_refused() -> None:
    world = World()
    async with world.running():
        await world.verify()
        found = await world.migration.do(Revert(dry_run=True))
        assert [blocker.code for blocker in found] == ["phase"]


@virtual
async def test_a_word_that_spans_the_delivery_timeout_needs_a_longer_attempt() -> None:
    world = World(rests_on_word=True, cutover={"delivery_timeout": Duration(30)})
    async with world.running():
        await world.verify()
        assert await blockers(world, timeout_s=29.0) == ["timeout-short"]
        assert await blockers(world, timeout_s=30.0) == []


@virtual
async def test_a_foreign_member_of_the_group_closes_the_gate_until_a_person_has_looked() -> (
    None
):
    world = World()
    async with world.running() as migration:
        await world.verify()
        world.log.members.append("somebody")
        await asyncio.sleep(16)
        assert await blockers(world) == ["group-foreign"]
        with pytest.raises(Refused, match="it goes on"):
            await migration.do(Acknowledge("group-foreign"))
        world.log.members.clear()
        await asyncio.sleep(16)
        assert await blockers(world) == ["group-foreign"]
        await migration.do(Acknowledge("group-foreign", "it was mine"))
        assert await blockers(world) == []


@virtual
async def test_a_broker_that_is_away_makes_the_lag_unknown_before_long() -> None:
    world = World()
    async with world.running():
        await world.verify()
        world.log.away = True
        await asyncio.sleep(35)
        assert {"lag-unknown", "store-away"} <= set(await blockers(world))
        world.log.away = False
        await asyncio.sleep(5)
        assert await blockers(world) == []
