"""
What one seed is about: the collections, the times, the faults and the operator's story.

Everything is drawn here, before the run begins, so that a change of the engine changes what
happens in a seed and not what the seed is about.
"""

from __future__ import annotations

import uuid
from random import Random
from typing import Any

import msgspec

from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.model.phase import Phase
from replicator.model.point import PointId, ScopedId, bare
from replicator.model.schema import Distance, IdKinds
from replicator.settings.cutover import CutoverSettings, HttpSettings, ManualSettings
from replicator.settings.feeds import FeedSettings, KafkaSettings, NoFeedSettings
from replicator.settings.settings import (
    BackfillSettings,
    Settings,
    StreamSettings,
    VerifySettings,
)
from replicator.settings.transform import CollectionSettings, TransformSettings
from replicator.settings.units import Duration, Size
from replicator.testing.faults import Fault

STORIES = {
    "cutover": 30,
    "revert": 16,
    "abort-again": 10,
    "lost-state": 8,
    "grown": 6,
    "truncated": 5,
    "glitch": 8,
    "plain": 5,
    "abort": 5,
    "held": 7,
    "unstarted": 2,
    "remade": 8,
    "restored": 6,
    "second": 6,
}
"""Story → weight. Each ends in a terminal phase."""


NO_OTHER_EPOCH = frozenset({"plain", "lost-state", "restored", "second", "unstarted"})
"""Stories in which the epoch itself is what is at stake, or nobody would notice."""


class CollectionPlan(msgspec.Struct, kw_only=True):
    """One collection: its ids, its vectors, and how it is transformed."""

    settings: CollectionSettings
    ids: list[PointId]
    vectors: dict[str, int]
    """Vector name → dimension."""
    distance: Distance
    versioned: bool
    scoped: bool = False
    """Its ids are unique only within a scope, and there are two, with the same ids."""
    fan_in: bool = False
    """The target has none: all points lie together there."""
    flat: bool = False
    """The target holds no maps and no lists."""
    shared: bool = False
    """Another one has the same target, and the same ids."""

    @property
    def source(self) -> str:
        return self.settings.source

    @property
    def target(self) -> str:
        return self.settings.target


class Plan(msgspec.Struct, kw_only=True):
    """One seed."""

    seed: int
    story: str
    collections: list[CollectionPlan]
    settings: Settings
    partitions: int
    writers: int
    pace_s: float
    """Mean time between two changes of one writer."""
    emit_delay_s: float
    """Longest time between a change and its event, either way round."""
    source_staleness_s: float
    target_staleness_s: float
    late_write_bound_s: float
    marks: bool
    target_scopes: bool
    """The target can have scopes."""
    source_patches: bool
    target_patches: bool
    """Whether the store changes parts of a point, or is given whole points only."""
    rates: dict[Fault, float]
    crashes: list[tuple[str, int]]
    """(point, occurrence) at which the process dies; at `step`, the loop's own steps."""
    drains: list[int]
    """Steps of the loop at which the process is asked to end, and started again."""
    outage: tuple[str, float, float] | None
    """(source, target or broker; when; how long)"""
    foreign_at_s: float | None
    """When somebody else uses our consumer group."""
    glitch_at: Phase
    """In the story of that name: the phase in which the broker answers wrongly."""
    word_fence: bool
    repeatable_switch: bool
    readable_switch: bool
    poison: bool
    hot: bool
    pause: bool
    verify_early: bool
    compare_early: bool
    meddles: int
    """How many commands a second person gives, at any moment; 0: there is none."""
    identified: bool
    """Whether the log has an id by which one made anew is known."""
    moved_on_at_s: float | None
    """When somebody else gives the route another epoch."""


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    random = Random(seed)
    story = random.choices(list(STORIES), list(STORIES.values()))[0]
    return draw_story(seed, random, story)


def draw_story(seed: int, random: Random, story: str) -> Plan:
    """The plan of a seed, for a story that is given."""
    feedless = story == "plain"
    stale = random.choice([0.0, 0.0, 0.3, 0.8])
    emit_delay_s = random.choice([0.0, 0.05, 0.4])
    settle_s = stale + emit_delay_s + 0.05
    word_fence = random.random() < 0.4
    collections = [
        _collection(random, number) for number in range(1 if random.random() < 0.6 else 2)
    ]
    # From a chance of their own, so that what else a seed draws stays as it is.
    chance = Random(f"scopes {seed}")
    target_scopes = chance.random() < 0.6
    collections = [_with_scopes(chance, target_scopes, plan) for plan in collections]
    if len(collections) > 1 and Random(f"shared {seed}").random() < 0.4:
        collections = _sharing(*collections)
    marks = random.random() < 0.7 or story in {"restored", "second"}
    # Of their own, so that they leave what a seed draws besides as it was before them.
    rules = Random(f"rules {seed}")
    source_patches, target_patches = rules.random() < 0.75, rules.random() < 0.7
    flat = rules.random() < 0.3
    for collection in collections:
        collection.flat = flat
    return Plan(
        seed=seed,
        story=story,
        collections=collections,
        settings=_settings(
            random,
            collections,
            settle_s=settle_s,
            delivery_s=emit_delay_s + 0.3 if word_fence else 0.0,
            word_fence=word_fence,
            feedless=feedless,
        ),
        partitions=random.randint(1, 3),
        writers=random.randint(2, 3),
        pace_s=random.choice([0.1, 0.2, 0.5]),
        emit_delay_s=emit_delay_s,
        source_staleness_s=stale,
        target_staleness_s=random.choice([0.0, 0.0, 0.3]),
        late_write_bound_s=random.choice([0.5, 1.0, 3.0]),
        marks=marks,
        target_scopes=target_scopes,
        source_patches=source_patches,
        target_patches=target_patches,
        rates=_rates(random, story),
        crashes=_crashes(random, story),
        drains=[random.randint(100, 4000)] if random.random() < 0.2 else [],
        outage=_outage(random),
        foreign_at_s=random.random() * 15 if random.random() < 0.08 else None,
        glitch_at=random.choice(
            [
                Phase.PLANNED,
                Phase.BACKFILL,
                Phase.REPLAY,
                Phase.REPLAY,
                Phase.STREAMING,
                Phase.FENCING,
            ]
        ),
        word_fence=word_fence,
        repeatable_switch=random.random() < 0.6 and story != "held",
        readable_switch=random.random() < 0.6 and story != "held",
        poison=random.random() < 0.3,
        hot=random.random() < 0.4,
        pause=random.random() < 0.3,
        verify_early=random.random() < 0.5,
        compare_early=random.random() < 0.4,
        meddles=random.randint(4, 30) if random.random() < 0.6 else 0,
        identified=random.random() < 0.6,
        moved_on_at_s=random.random() * 25
        if random.random() < 0.1 and story not in NO_OTHER_EPOCH
        else None,
    )


def _collection(random: Random, number: int) -> CollectionPlan:
    steps: dict[str, Any] = {}
    if random.random() < 0.4:
        steps["filter"] = random.choice(
            [
                {"must": [{"key": "year", "range": {"gte": 3}}]},
                {"must_not": [{"key": "lang", "match": {"value": "de"}}]},
                {
                    "should": [
                        {"key": "year", "range": {"lt": 4}},
                        {"key": "lang", "match": {"value": "en"}},
                    ]
                },
            ]
        )
    if random.random() < 0.4:
        steps["rename"] = {"n": "count", "lang": "language"}
    if random.random() < 0.4:
        steps["cast"] = random.choice([{"year": "str"}, {"price": "int"}, {"year": "float"}])
    if random.random() < 0.4:
        steps["default"] = {"lang": "xx", "size": 0}
    if random.random() < 0.3:
        steps["drop"] = ["junk"]
    if random.random() < 0.3:
        steps["constant"] = {"origin": "simulation"}
    named = random.random() < 0.3
    vectors = {"title": 2, "body": 3} if named else {"": 2}
    if random.random() < 0.3:
        steps["vectors"] = {"title": "t", "body": "b"} if named else {"": "text"}
    integers = random.random() < 0.6
    count = random.randint(6, 14)
    ids: list[PointId] = (
        [5 + 3 * n for n in range(count)]
        if integers
        else [
            str(uuid.UUID(int=random.getrandbits(128))) if n % 4 == 0 else f"doc/{n} ä"
            for n in range(count)
        ]
    )
    return CollectionPlan(
        settings=CollectionSettings(
            source=f"books{number}",
            target=f"books{number}_v2" if random.random() < 0.5 else f"books{number}",
            transform=TransformSettings(**steps),
        ),
        ids=ids,
        vectors=vectors,
        distance=random.choice([Distance.COSINE, Distance.DOT]),
        versioned=random.random() < 0.4,
    )


SCOPES = ("ä/1", "b")


def _with_scopes(random: Random, target: bool, plan: CollectionPlan) -> CollectionPlan:
    """Some collections have scopes: half of the ids, each in both."""
    if random.random() < 0.7:
        return plan
    some = plan.ids[: len(plan.ids) // 2]
    scopes: Any = random.choice(["*", list(SCOPES)])
    return msgspec.structs.replace(
        plan,
        ids=[ScopedId(scope, bare(each)) for each in some for scope in SCOPES],
        settings=msgspec.structs.replace(plan.settings, scopes=scopes),
        scoped=True,
        fan_in=not target,
    )


def _sharing(first: CollectionPlan, second: CollectionPlan) -> list[CollectionPlan]:
    """Both lead to the first one's target, which is to hold what each of them has."""
    steps = msgspec.structs.replace(
        second.settings.transform, vectors=first.settings.transform.vectors
    )
    other = msgspec.structs.replace(
        first.settings, source=second.source, ids="mapped", transform=steps
    )
    return [
        msgspec.structs.replace(
            first, settings=msgspec.structs.replace(first.settings, ids="mapped"), shared=True
        ),
        msgspec.structs.replace(first, settings=other, versioned=second.versioned, shared=True),
    ]


def _settings(
    random: Random,
    collections: list[CollectionPlan],
    *,
    settle_s: float,
    delivery_s: float,
    word_fence: bool,
    feedless: bool,
) -> Settings:
    feed: FeedSettings = (
        NoFeedSettings()
        if feedless
        else KafkaSettings(
            bootstrap_servers="memory:9092",
            topic="changes",
            settle=Duration(settle_s),
            event_bytes_max=Size(4096),
        )
    )
    # The stores are built by the world; what the settings say of them is only that they are
    # not one.
    return Settings(
        name="simulation",
        source=JsonlSettings(path="the source"),
        target=JsonlSettings(path="the target"),
        collections=[collection.settings for collection in collections],
        feed=feed,
        stream=StreamSettings(
            batch_records=random.choice([1, 4, 32]),
            linger=Duration(random.choice([0.0, 0.02, 0.1])),
            in_flight_max=random.choice([1, 3, 8]),
            buffer_records=random.choice([8, 64, 1000]),
            commit_interval=Duration(random.choice([0.1, 0.5])),
            version_window=random.choice([8, 1000]),
            backoff_min=Duration(0.05),
            backoff_max=Duration(1),
            drain_timeout=Duration(10),
        ),
        backfill=BackfillSettings(
            readers=random.randint(1, 3),
            chunks=random.choice([1, 3]),
            page_rows=random.choice([1, 3, 50]),
        ),
        verify=VerifySettings(
            page_rows=random.choice([2, 50]),
            suspects_max=random.choice([2, 1000]),
            queries=0,
        ),
        cutover=CutoverSettings(
            fence=ManualSettings() if word_fence else HttpSettings(url="http://app/fence"),
            switch=HttpSettings(url="http://app/switch"),
            timeout=Duration(60),
            delivery_timeout=Duration(delivery_s),
            lag_seconds_max=Duration(5),
            touched_keys_max=random.choice([2, 1000]),
            way_back_lossy=True,
        ),
    )


def _outage(random: Random) -> tuple[str, float, float] | None:
    if random.random() < 0.85:
        return None
    who = random.choice(["source", "target", "broker"])
    return who, random.random() * 12, random.choice([2.0, 15.0, 60.0])


def _rates(random: Random, story: str) -> dict[Fault, float]:
    """A few faults, so that each seed has a character of its own."""
    rates = {
        Fault.SLOW: 0.02,
        Fault.THROTTLED: 0.1,
        Fault.UNAVAILABLE: 0.1,
        Fault.REPLY_LOST: 0.15,
        Fault.LATE_WRITE: 0.15,
        Fault.NEVER_ARRIVED: 0.1,
        Fault.ACKNOWLEDGED: 0.1,
        Fault.PARTIAL: 0.15,
        Fault.STALE_READ: 0.5,
        Fault.BROKER_AWAY: 0.05,
        Fault.DUPLICATE: 0.1,
        Fault.GAP: 0.1,
        Fault.TRANSACTION: 0.1,
        Fault.SHORT_POLL: 0.5,
        Fault.LETTERS_AWAY: 0.3,
        Fault.FENCE_REFUSED: 0.3,
        Fault.FENCE_ACK_LOST: 0.3,
        Fault.FENCE_IGNORED: 0.3,
        Fault.FENCE_AWAY: 0.4,
        Fault.SWITCH_REPLY_LOST: 0.4,
        Fault.SWITCH_FAILED: 0.3,
        Fault.SWITCH_SLOW: 0.5,
        Fault.HOOK_FAILED: 0.15,
        Fault.LATE_BATCH: 0.3,
        Fault.OLD_VERSION: 0.05,
    }
    chosen = random.sample(list(rates), random.randint(2, 8))
    if random.random() < 0.5:
        chosen += [Fault.SHORT_POLL, Fault.STALE_READ]
    drawn = {fault: rates[fault] * random.choice([0.3, 1.0]) for fault in chosen}
    if story == "plain":
        drawn |= {Fault.UNAVAILABLE: 0.5, Fault.REPLY_LOST: 0.9}
    if Fault.FENCE_AWAY in drawn:
        drawn[Fault.SWITCH_SLOW] = 0.6
    if story == "held":
        drawn |= {Fault.SWITCH_REPLY_LOST: 0.7, Fault.SWITCH_FAILED: random.choice([0.0, 0.5])}
    return drawn


POINTS = (
    "save PLANNED",
    "save BACKFILL",
    "save REPLAY",
    "save STREAMING",
    "save FENCING",
    "save SWITCHING",
    "send",
    "send",
    "commit",
    "advance",
    "fence close",
    "fence open",
    "switch",
    "keep",
)
"""Places at which a crash can be planned; it comes within a few steps after."""


def _crashes(random: Random, story: str) -> list[tuple[str, int]]:
    crashes: list[tuple[str, int]] = []
    if story == "held" and random.random() < 0.3:
        crashes.append(("switch", 1))
    for _ in range(random.choice([0, 1, 1, 2, 3])):
        if random.random() < 0.4:
            crashes.append(("step", random.randint(30, 4000)))
        else:
            point = random.choice(POINTS)
            common = point in {"send", "commit", "advance"}
            crashes.append((point, random.randint(1, 40 if common else 2)))
    return crashes


SOURCE_IDS = IdKinds.UINT64 | IdKinds.UUID | IdKinds.STRING
TARGET_IDS = IdKinds.UINT64 | IdKinds.UUID
