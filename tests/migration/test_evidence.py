"""
What is known is bound to its context: a verification to the capture, the epoch and the stores
that it looked at; a fact to nothing but a person's word; a dead letter to its direction and
partition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from replicator.codecs.partition import expected_partition
from replicator.errors import OwnershipUnknown, Refused, Rejected, Retryable
from replicator.model.command import (
    Abort,
    Acknowledge,
    CancelVerification,
    Cutover,
    DiscardLetters,
    Own,
    Resume,
    RetryLetters,
    Revert,
    Verify,
)
from replicator.model.fact import FactCode
from replicator.model.letter import LetterState
from replicator.model.phase import Direction, Phase
from replicator.model.schema import Distance
from replicator.model.search import Hit
from replicator.model.write import Delete, Upsert
from replicator.settings.units import Duration
from tests.migration.lives import (
    at_target,
    codes,
    cut_over,
    killed,
    ready,
    revert,
    stamped,
    streams,
)
from tests.migration.rig import World
from tests.stream.rig import point, refuses_poison, upsert, virtual

Making = Callable[[World], Awaitable[None]]


def strict_partitions(world: World) -> int:
    """Let the producers' partitioner be known; the wrong partition for key 1."""
    feed = msgspec.structs.replace(world.settings.feed, partitioner="murmur2")
    world.settings = msgspec.structs.replace(world.settings, feed=feed)
    world.restart()
    right = expected_partition("murmur2", b"books/1", 2)
    assert right is not None
    return 1 - right


# -- a verification ------------------------------------------------------------------------


async def after_a_reverse_window(world: World) -> None:
    await cut_over(world)
    world.spoil(Upsert(point(2, n="written at the target; its writer died before it emitted")))
    await revert(world)


async def after_an_epoch_was_followed(world: World) -> None:
    world.switch.epoch = 3
    world.write(stamped(upsert(1, n=1), 3))
    await world.until_applied()


async def after_a_person_said_that_another_log_is_meant(world: World) -> None:
    world.log.make_anew()
    for number in range(3):
        world.write(upsert(number, n=number))
    await world.until(lambda: world.record.phase is Phase.BLOCKED)
    await world.migration.do(Acknowledge("log-replaced", "it was moved"))
    await world.migration.do(Resume())


@pytest.mark.parametrize(
    "happen",
    [
        after_a_reverse_window,
        after_an_epoch_was_followed,
        after_a_person_said_that_another_log_is_meant,
    ],
)
@virtual
async def test_what_was_verified_before_counts_no_more(happen: Making) -> None:
    world = World()
    world.seed(1, 2, 3, n=0)
    async with world.running():
        await ready(world)
        assert await codes(world) == set()
        await happen(world)
        await streams(world)
        assert await codes(world) == {"not-verified"}
        await world.verify()
        assert "not-verified" not in await codes(world)


@virtual
async def test_the_verification_of_another_capture_counts_no_more() -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        await migration.do(Abort())
    world.target.clear("books_v2")
    world.restart()
    async with world.running():
        await streams(world)
        assert await codes(world) == {"not-verified"}


@virtual
async def test_a_verification_counts_after_a_restart_and_from_where_it_began() -> None:
    world = World()
    async with world.running():
        await world.verify()
    world.restart()
    async with world.running():
        world.write(upsert(9, n=9))
        await world.until_applied()
        world.spoil(Delete(9))
        await streams(world)
        await cut_over(world)
        assert world.payloads() == {9: {"n": 9}}, "the last comparison read it in the log"


@virtual
async def test_a_verification_under_way_when_a_fact_is_acknowledged_does_not_count() -> None:
    world = World(partitions=2, verify={"rate_max": 50.0})
    wrong = strict_partitions(world)
    world.seed(*range(100), n=1)
    async with world.running() as migration:
        world.emit(upsert(1, n=1), partition=wrong)
        await world.until_applied()
        verifying = asyncio.create_task(world.verify())
        await asyncio.sleep(1)
        await migration.do(Acknowledge("misplaced-keys", "the producer is mended"))
        await verifying
        assert await codes(world) == {"not-verified"}
        await world.verify()
        assert await codes(world) == set()


# -- searches and settings -----------------------------------------------------------------


def searching(world: World) -> list[bool]:
    """Let both stores search; the target finds nothing while the list that is returned says
    so.
    """
    blind = [True]

    async def finds(collection: str, query: Any) -> list[Hit]:
        return [Hit(number, 1.0 / number) for number in range(1, 11)]

    async def finds_or_not(collection: str, query: Any) -> list[Hit]:
        return [] if blind[0] else await finds(collection, query)

    world.images.search = finds  # type: ignore[attr-defined]
    world.door.search = finds_or_not  # type: ignore[attr-defined]
    return blind


@virtual
async def test_searches_that_fall_short_close_the_gate_through_restarts_until_waived() -> None:
    world = World(verify={"queries": 20})
    world.seed(*range(1, 31), n=1)
    searching(world)
    async with world.running():
        report = await world.verify()
        assert report.below
        assert await codes(world) == {"recall"}
        with pytest.raises(Refused):
            await cut_over(world)
    world.restart()
    blind = searching(world)
    async with world.running() as migration:
        await streams(world)
        assert await codes(world) == {"recall"}
        assert await codes(world, waive_recall=True) == set()
        # A look that asks nothing proves nothing of it.
        migration.verification.recall_below = []
        assert await codes(world) == {"recall"}
        blind[0] = False
        await world.verify()
        assert await codes(world) == set()
        blind[0] = True
        await world.verify("counts")
        assert await codes(world) == {"recall"}
    world.restart()
    searching(world)
    async with world.running():
        await streams(world)
        assert await codes(world) == {"recall"}, "what no full one has found holds as well"
        await cut_over(world, waive_recall=True)
        [entry] = [entry for entry in await world.entries() if entry.step == "gate"]
        assert entry.evidence["waived"].keys() == {"recall"}


@virtual
async def test_a_target_that_is_set_otherwise_closes_the_gate_through_restarts() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running():
        held = world.target.collections["books_v2"]
        as_planned = held.schema.vectors
        assert as_planned is not None
        vectors = {"v": msgspec.structs.replace(as_planned["v"], distance=Distance.EUCLID)}
        held.schema = msgspec.structs.replace(held.schema, vectors=vectors)
        report = await world.verify()
        assert report.misconfigured
        assert not report.equal
        assert await codes(world, waive_recall=True) == {"configuration"}
    world.restart()
    async with world.running():
        await streams(world)
        assert await codes(world) == {"configuration"}
        held.schema = msgspec.structs.replace(held.schema, vectors=as_planned)
        await world.verify()
        assert await codes(world) == set()


@virtual
async def test_keys_that_changed_at_every_look_are_reported_and_journalled() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running() as migration:
        world.spoil(Delete(1))
        fetch = world.door._store.fetch

        async def busy(collection: str, ids: Any) -> Any:
            found = await fetch(collection, ids)
            world.emit(upsert(1, n=2))  # of which the target shows nothing yet
            found.pop(1, None)
            return found

        world.door.fetch = busy  # type: ignore[attr-defined]
        report = await migration.do(Verify())
        assert (report.hot, report.different, report.missing) == (1, 0, 0)
        entries = [entry for entry in await world.entries() if entry.step == "verify"]
        assert entries[-1].evidence["hot"] == 1
        assert (await migration.status()).verify.hot == 1
        world.door.fetch = fetch  # type: ignore[attr-defined]
    world.restart()
    async with world.running() as migration:
        assert (await migration.status()).verify.hot == 1
        await world.until_applied()
        await world.verify()
        assert (await migration.status()).verify.hot == 0


# -- facts ---------------------------------------------------------------------------------


@virtual
async def test_a_misplaced_key_closes_the_gate_until_a_person_says_and_it_is_verified() -> None:
    world = World(partitions=2)
    wrong = strict_partitions(world)
    async with world.running():
        await world.verify()
        world.source.write("books", Upsert(point(1, n=1)))
        world.emit(upsert(1, n=1), partition=wrong)
        await world.until_applied()
        assert await codes(world) == {"misplaced-keys"}
    world.restart()
    async with killed(world):
        await streams(world)
        assert await codes(world) == {"misplaced-keys"}
    async with world.running() as migration:
        await streams(world)
        assert await codes(world) == {"misplaced-keys"}
        await migration.do(Acknowledge("misplaced-keys", "the producer is mended"))
        assert await codes(world) == {"not-verified"}
        [entry] = [e for e in await world.entries() if e.step == "acknowledge"]
        assert "the producer is mended" in entry.message
        assert entry.evidence["partition"] == world.log.name(wrong)
        await world.verify()
        assert await codes(world) == set()


@virtual
async def test_an_intruder_that_has_gone_is_remembered_through_a_restart() -> None:
    world = World()
    async with world.running():
        await world.verify()
        world.log.members.append("somebody")
        await world.until(lambda: bool(world.record.facts))
        world.log.members.clear()
    world.restart()
    async with world.running() as migration:
        await streams(world)
        assert await codes(world) == {"group-foreign"}
        await migration.do(Acknowledge("group-foreign"))
        assert await codes(world) == set()


@virtual
async def test_what_is_not_latched_cannot_be_acknowledged() -> None:
    world = World(partitions=2)
    wrong = strict_partitions(world)
    async with world.running() as migration:
        with pytest.raises(Refused) as caught:
            await migration.do(Acknowledge("misplaced-keys"))
        assert caught.value.code == "phase-refused"
        world.emit(upsert(1, n=1), partition=wrong)
        await world.until_applied()
        with pytest.raises(Refused) as caught:
            await migration.do(Acknowledge("group-foreign"))
        assert caught.value.code == "not-found"


# -- a lapse -------------------------------------------------------------------------------


@virtual
async def test_a_fence_that_lapsed_and_was_closed_again_is_still_a_lapse() -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        world.switch.takes_s = 400.0

        async def in_the_lapse() -> None:
            await world.until(lambda: world.record.phase is Phase.SWITCHING)
            away = Retryable("fence-failed", "no answer")
            world.fence.errors.extend([away] * 14)
            await world.until(lambda: not world.fence.is_closed)
            world.write(upsert(77, n="admitted in the lapse"))
            await world.until(lambda: world.fence.is_closed)

        lapse = asyncio.create_task(in_the_lapse())
        with pytest.raises(OwnershipUnknown, match="the fence had lapsed"):
            await cut_over(world)
        await lapse
        assert world.record.phase is Phase.HELD
        assert world.record.fact(FactCode.LAPSE) is not None
        # It ends with its attempt, and not by a person's word on anything else.
        with pytest.raises(Refused):
            await migration.do(Acknowledge("fence-lapsed"))
        await migration.do(Own("target"))
        await streams(world)
        assert world.record.facts == ()


@virtual
async def test_a_lapse_in_which_nobody_wrote_lets_the_attempt_go_on() -> None:
    world = World()
    async with world.running():
        await ready(world)
        world.switch.takes_s = 400.0
        away = Retryable("fence-failed", "no answer")
        world.switch.on_switch = lambda: None

        async def lapse() -> None:
            await world.until(lambda: world.record.phase is Phase.SWITCHING)
            world.fence.errors.extend([away] * 14)

        lapsing = asyncio.create_task(lapse())
        await cut_over(world)
        await lapsing
        assert "latched" in await world.steps()
        assert (world.record.direction, world.record.facts) == (Direction.REVERSE, ())


# -- behind the point of no return ---------------------------------------------------------


async def dead_in_switching(world: World) -> None:
    """The switch takes its time, and the process does not live to see its end."""
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world._is_in(Phase.STREAMING))
    await ready(world)
    world.switch.takes_s = 1000.0
    cutting = asyncio.create_task(world.migration.do(Cutover()))
    await world.until(lambda: bool(world.switch.calls))
    world.migration.request_drain()
    await asyncio.wait([cutting, task])
    assert isinstance(cutting.exception(), Refused)
    assert world.record.phase is Phase.SWITCHING
    world.switch.takes_s = 0.0
    world.restart()


@pytest.mark.parametrize("word", [False, True])
@pytest.mark.parametrize("epoch", [None, 0])
@virtual
async def test_a_restart_in_switching_reads_what_passed_the_fence(
    word: bool, epoch: int | None
) -> None:
    world = World(rests_on_word=word)
    await dead_in_switching(world)
    event = upsert(77, n=1)
    event.epoch = epoch
    world.write(event)  # by a writer that ignored the word, or came through the lapse
    async with world.running(Phase.HELD) as migration:
        assert world.switch.at is Direction.FORWARD
        # Where it rests on a word nothing opens by itself.
        assert (world.record.fact(FactCode.LAPSE) is None) == word
        assert ("the fence had lapsed" in world.record.reason) != word
        await migration.do(Own("source"))
        await world.until_applied()
        assert world.payloads()[77] == {"n": 1}


@pytest.mark.parametrize("word", [False, True])
@virtual
async def test_records_of_the_new_epoch_are_expected_behind_the_vector(word: bool) -> None:
    world = World(rests_on_word=word)
    await dead_in_switching(world)
    world.switch.at, world.switch.epoch = Direction.REVERSE, 1
    at_target(world, stamped(upsert(77, n=1), 1))
    async with world.running():
        await world.until_applied()
        assert world.record.direction is Direction.REVERSE
        assert world.source.points("books")[77].payload == {"n": 1}
        assert "HELD" not in await world.steps()


@virtual
async def test_a_log_that_cannot_be_read_in_switching_is_asked_no_more_than_now_and_then() -> (
    None
):
    world = World()
    await dead_in_switching(world)
    world.log.away = True
    task = asyncio.create_task(world.migration.run())
    await asyncio.sleep(60)
    assert world.fence.calls.count("close") < 20
    assert world.record.phase is Phase.SWITCHING
    world.log.away = False
    await world.until(lambda: world._is_in(Phase.STREAMING))
    world.migration.request_drain()
    await task


@virtual
async def test_a_damaged_log_in_switching_is_for_a_person_and_does_not_spin() -> None:
    world = World()
    await dead_in_switching(world)
    world.log.damaged = True
    async with world.running(Phase.HELD):
        entries = len(await world.entries())
        await asyncio.sleep(60)
        assert len(await world.entries()) == entries
        assert world.record.fence_closed
        world.log.damaged = False


@virtual
async def test_a_job_that_only_fails_is_begun_again_no_sooner_than_a_second_later() -> None:
    world = World()
    begun: list[float] = []

    async def fails() -> None:
        begun.append(asyncio.get_running_loop().time())

    async with world.running() as migration:
        migration._begun.supervisor.resume_switch = fails
        world.record.phase = Phase.SWITCHING
        migration._begun.supervisor.wake()
        await asyncio.sleep(30)
        assert 25 <= len(begun) <= 31
        world.record.phase = Phase.STREAMING
        migration._begun.supervisor.wake()


# -- dead letters --------------------------------------------------------------------------


@virtual
async def test_a_letter_is_not_settled_by_a_record_of_another_partition() -> None:
    """Offsets of two partitions tell nothing of which came first."""
    world = World(partitions=2)
    async with world.running() as migration:
        world.log.produce(b"books/1", b"\xff", partition=1)
        await world.until_applied()
        world.emit(upsert(9), upsert(1, n=1), partition=0)
        await world.until_applied()
        await asyncio.sleep(1)
        assert migration.engine.letters.open == 1


@virtual
async def test_a_letter_of_the_reverse_window_closes_the_way_back_until_waived() -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        await cut_over(world)
        world.source.refuses = refuses_poison
        at_target(world, stamped(upsert(1, poison=1), 1))
        await world.until_applied()
        await streams(world)
        assert await codes(world) == {"dead-letters"}
        with pytest.raises(Refused):
            await migration.do(Revert())
        assert await codes(world, waive_dead_letters=True) == set()
        await revert(world, waive_dead_letters=True)
        [letter] = await world.state.letters(LetterState.OPEN)
        assert letter.direction is Direction.REVERSE
        # Of the reverse window, it holds up no cutover; and no retry writes the target.
        await world.verify()
        assert "dead-letters" not in await codes(world)
        [outcome] = (await migration.do(RetryLetters())).values()
        assert "older than the switch" in outcome


@virtual
async def test_what_a_person_discarded_is_still_compared_before_the_switch() -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        world.target.refuses = refuses_poison
        world.write(upsert(7, poison=1))
        await world.until_applied()
        [letter] = await world.state.letters()
        await migration.do(DiscardLetters((letter.number,)))
        with pytest.raises(Refused) as caught:
            await cut_over(world)
        assert caught.value.code == "recheck-mismatch"
        assert world.record.direction is Direction.FORWARD


# -- what one bad answer may not end -------------------------------------------------------


@virtual
async def test_one_refused_answer_to_a_probe_ends_nothing() -> None:
    world = World()
    async with world.running() as migration:
        feed = migration.parts.feed
        assert feed is not None
        real = feed.bounds

        async def refused() -> Any:
            feed.bounds = real  # type: ignore[method-assign]
            raise Refused("topic-missing", "the cluster has no such topic")

        feed.bounds = refused  # type: ignore[method-assign]
        await asyncio.sleep(10)
        world.write(upsert(1, n=1))
        await world.until_applied()
        assert world.record.phase is Phase.STREAMING


@virtual
async def test_a_refused_search_in_a_regular_verification_ends_nothing() -> None:
    world = World(verify={"interval": Duration(10), "queries": 3})
    world.seed(1, 2, n=1)

    async def search(*_: Any) -> Any:
        raise Rejected("target-rejected", "wrong query")

    world.door.search = search  # type: ignore[attr-defined]
    async with world.running() as migration:
        await asyncio.sleep(100)
        world.write(upsert(1, n=1))
        await world.until_applied()
        assert migration.verification.generation > 0


@virtual
async def test_a_verification_that_a_person_cancels_is_not_begun_again_at_once() -> None:
    world = World(verify={"interval": Duration(600), "rate_max": 10.0})
    world.seed(*range(200), n=1)
    async with world.running() as migration:
        await world.until(lambda: migration._operations.under_way == "verify")
        assert await migration.do(CancelVerification())
        assert not await migration.do(CancelVerification())
        await asyncio.sleep(300)
        assert migration._operations.idle
        mine = asyncio.create_task(world.verify())
        await asyncio.sleep(1)
        assert await migration.do(CancelVerification())
        with pytest.raises(Refused) as caught:
            await mine
        assert caught.value.code == "cancelled"
