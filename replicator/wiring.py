"""
The composition root: which settings become which parts.

Nothing connects here, and drivers are imported only when a part is built: a command that asks
the daemon over HTTP pays for none of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from replicator import __version__, clock
from replicator.errors import Refused
from replicator.extras import needed_for
from replicator.kinds import open_store
from replicator.ports.control import Control
from replicator.ports.feed import DeadLetterLog
from replicator.settings.cutover import AliasSettings, HttpSettings, ManualSettings
from replicator.settings.feeds import ChangelogSettings, KafkaSettings, NoFeedSettings
from replicator.settings.redaction import secrets_of
from replicator.settings.settings import Settings
from replicator.settings.stores import StoreSettings

if TYPE_CHECKING:
    from replicator.metrics import Metrics
    from replicator.migration.evidence.standing import Standing
    from replicator.migration.preflight.plan import Plan
    from replicator.model.finding import CheckFinding
    from replicator.ports.feed import ChangeFeed, EventLog
    from replicator.ports.state import StateStore
    from replicator.ports.store import Store, StoreWriter
    from replicator.ports.traffic import Fence, Switch
    from replicator.stream.embedding import Models
    from replicator.stream.reading import Reader
    from replicator.traffic.person import Person


class Service(Control, Protocol):
    """A migration as the daemon runs it."""

    async def run(self) -> None:
        """
        Do the work until it is complete, aborted or drained. Raises Unavailable only before
        anything was begun, and may then be called again; other errors end the process.
        """
        ...

    def request_drain(self) -> None:
        """Finish what is in flight, persist, and let `run` return."""
        ...


class LetterLog(DeadLetterLog, Protocol):
    """A log of dead letters that holds a connection."""

    async def close(self) -> None:
        """Let go of it."""
        ...


class Assembly:
    """A service with the metrics that it keeps."""

    def __init__(self, service: Service, metrics: Metrics) -> None:
        self.service = service
        self.metrics = metrics


def make_stores(settings: Settings) -> tuple[Store, Store]:
    """The connectors of source and target."""
    from replicator.migration.evidence.taken import choose_options

    page_bytes = settings.memory.page_bytes(settings.backfill.readers)
    source = open_store(settings.source, page_bytes)
    target = open_store(settings.target, page_bytes)
    choose_options(settings, source, target)
    return source, target


@contextlib.asynccontextmanager
async def open_models(settings: Settings) -> AsyncIterator[Models | None]:
    """
    What makes vectors anew, and the file beside the state where those made already lie; None
    where nothing is. Raises Refused("embedder-broken").
    """
    functions = {
        embed.function
        for collection in settings.collections
        for embed in collection.transform.embed.values()
    }
    if not functions:
        yield None
        return
    from replicator.embedding.cache import SqliteVectorCache
    from replicator.embedding.function import FunctionEmbedder
    from replicator.stream.embedding import Models

    cache = SqliteVectorCache(f"{settings.state.path}.embeddings")
    embedders = {function: FunctionEmbedder.load(function) for function in sorted(functions)}
    async with contextlib.aclosing(cache):
        yield Models(embedders, cache)


def make_feed(settings: Settings) -> ChangeFeed | None:
    """The feed; None for a plain copy."""
    match settings.feed:
        case ChangelogSettings():
            from replicator.feeds.changelog import ChangelogFeed

            return ChangelogFeed(settings.feed, settings.name)
        case KafkaSettings():
            with needed_for('feed.kind = "kafka"', "kafka"):
                from replicator.feeds.kafka import KafkaFeed

            return KafkaFeed(settings.feed, settings.name)
        case NoFeedSettings():
            return None


def make_letter_log(settings: Settings) -> LetterLog:
    """
    Where the bytes of dead letters lie: beside the feed, or, for a plain copy, beside the
    state.
    """
    match settings.feed:
        case KafkaSettings():
            with needed_for('feed.kind = "kafka"', "kafka"):
                from replicator.feeds.kafka import KafkaDeadLetters

            return KafkaDeadLetters(settings.feed, settings.name)
        case ChangelogSettings(path=path):
            from replicator.feeds.changelog import ChangelogDeadLetters

            return ChangelogDeadLetters(path)
        case NoFeedSettings():
            from replicator.feeds.changelog import ChangelogDeadLetters

            return ChangelogDeadLetters(f"{settings.state.path}.dead-letters")


def make_event_log(settings: Settings) -> EventLog:
    """
    The writing side of the feed. Raises Refused("unsupported") without a feed, and where a
    database's change data capture writes it.
    """
    if not isinstance(settings.feed, NoFeedSettings) and settings.feed.decoder != "replicator":
        raise Refused(
            "unsupported",
            f"feed.decoder is {settings.feed.decoder}: change the rows in the database instead",
        )
    match settings.feed:
        case ChangelogSettings(path=path):
            from replicator.feeds.changelog import ChangelogEventLog

            if not Path(path).absolute().parent.is_dir():
                raise Refused("config-invalid", f"feed.path: there is no folder for {path}")
            return ChangelogEventLog(path)
        case KafkaSettings():
            with needed_for('feed.kind = "kafka"', "kafka"):
                from replicator.feeds.kafka import KafkaEventLog

            return KafkaEventLog(settings.feed, settings.name)
        case NoFeedSettings():
            raise Refused("unsupported", "feed.kind is none: there is nowhere to emit to")


async def open_state(settings: Settings, *, read_only: bool = False) -> StateStore:
    """The state, locked; or read-only, beside whoever holds it. Raises Refused, Fatal."""
    from replicator.state.logged import LoggedStateStore

    return await LoggedStateStore.open(settings.state.path, read_only)


def state_is_held(settings: Settings) -> bool:
    """Whether a process holds the state just now, answering or not."""
    from replicator.state.lock import StateLock

    try:
        StateLock(Path(settings.state.path)).release()
    except Refused:
        return True
    except FileNotFoundError:  # not even the folder is there
        return False
    return False


@contextlib.asynccontextmanager
async def build(settings: Settings, *, wipe: Sequence[str] = ()) -> AsyncIterator[Assembly]:
    """
    The migration with all its parts, and its state locked; everything is let go of on leaving.
    `wipe` names the target collections that may be emptied. Raises Refused and Fatal for the
    state; connects to nothing.
    """
    from replicator.metrics import Metrics
    from replicator.migration.migration import Migration
    from replicator.migration.parts import Parts
    from replicator.settings.fingerprint import fingerprint
    from replicator.traffic.hooks import Hooks
    from replicator.traffic.person import Person

    metrics = Metrics(settings.name, __version__)
    person = Person()
    async with contextlib.AsyncExitStack() as stack:
        state = await open_state(settings)
        stack.push_async_callback(state.close)
        models = await stack.enter_async_context(open_models(settings))
        source, target = make_stores(settings)
        feed, letter_log = make_feed(settings), make_letter_log(settings)
        for part in (source, target, feed, letter_log):
            if part is not None:
                stack.push_async_callback(part.close)
        migration = Migration(
            Parts(
                settings=settings,
                fingerprint="" if settings.has_patterns else fingerprint(settings),
                source=source,
                target=target,
                feed=feed,
                state=state,
                letter_log=letter_log,
                metrics=metrics,
                clock=clock.wall,
                models=models,
                wipe=wipe,
            ),
            fence=make_fence(settings, person),
            switch=make_switch(settings, person, target),
            hooks=Hooks(settings.hooks, settings.name, told=secrets_of(settings)),
            person=person,
        )
        yield Assembly(migration, metrics)


@contextlib.asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[tuple[Reader, Reader]]:
    """Source and target, for a command that only looks, and asks once."""
    from replicator.stream.reading import Reader

    async with contextlib.AsyncExitStack() as stack:
        source, target = make_stores(settings)
        stack.push_async_callback(source.close)
        stack.push_async_callback(target.close)
        yield Reader(source), Reader(target)


async def preflight(settings: Settings, *, wipe: Sequence[str] = ()) -> list[CheckFinding]:
    """Every check there is, of what can be put together. What is away is a finding."""
    from replicator.migration.evidence.taken import named_or_found
    from replicator.migration.preflight.checks import run_checks
    from replicator.settings.fingerprint import fingerprint
    from replicator.traffic.person import Person

    async with open_models(settings) as models, open_stores(settings) as (source, target):
        make_fence(settings, Person())
        make_switch(settings, Person(), target.store)
        standing = await load_standing(settings)
        named, found = await named_or_found(settings, standing.record, source, target)
        feed = make_feed(settings)
        try:
            return await run_checks(
                named,
                source=source,
                target=target,
                feed=feed,
                standing=standing,
                fingerprint=fingerprint(named),
                wipe=wipe,
                found=found,
                models=models,
            )
        finally:
            if feed is not None:
                await feed.close()


async def make_plan(settings: Settings) -> Plan:
    """What will be written where. Raises Refused, Retryable as `preflight.plan` does."""
    from replicator.migration.evidence import taken
    from replicator.migration.preflight import plan

    record = (await load_standing(settings)).record
    async with open_stores(settings) as (source, target):
        settings = await taken.named(settings, record, source)
        taken.choose_options(settings, source.store, target.store)
        return await plan.make_plan(settings, source=source, target=target)


async def name_collections(
    settings: Settings, listing: StoreSettings | None = None
) -> Settings:
    """
    The settings with names in the place of patterns, as the migration on this state has them;
    where none has begun, as the source lists them now, or the store `listing`. Raises Refused
    and Unavailable as `evidence.taken.named` does.
    """
    from replicator.migration.evidence.taken import named
    from replicator.stream.reading import Reader

    if not settings.has_patterns:
        return settings
    record = (await load_standing(settings)).record
    page_bytes = settings.memory.page_bytes(settings.backfill.readers)
    store = open_store(listing or settings.source, page_bytes)
    try:
        return await named(settings, record, Reader(store))
    finally:
        await store.close()


async def known_collections(settings: Settings) -> Settings:
    """As `name_collections`, without asking a store: patterns stay until a migration begins."""
    from replicator.migration.evidence.taken import recorded
    from replicator.settings.expansion import expanded

    names = recorded((await load_standing(settings)).record) if settings.has_patterns else None
    return settings if names is None else expanded(settings, names)


async def load_standing(settings: Settings) -> Standing:
    """How the migration on this state stands, if there is one; beside a daemon too."""
    from replicator.migration.evidence.standing import Standing, read_standing

    try:
        state = await open_state(settings, read_only=True)
    except Refused as refused:
        if refused.code == "state-missing":
            return Standing()
        raise
    try:
        return await read_standing(state)
    finally:
        await state.close()


def make_fence(settings: Settings, person: Person) -> Fence:
    """The writer fence."""
    from replicator.traffic.fences import HttpFence, ManualFence

    match settings.cutover.fence:
        case ManualSettings():
            return ManualFence(person, settings.name)
        case HttpSettings() as fence:
            return HttpFence(fence)


def make_switch(settings: Settings, person: Person, store: StoreWriter) -> Switch:
    """The traffic switch. Raises Refused("unsupported") where the store has no aliases."""
    from replicator.ports.store import AliasKeeper
    from replicator.traffic.switches import AliasSwitch, HttpSwitch, ManualSwitch

    match settings.cutover.switch:
        case ManualSettings():
            return ManualSwitch(person, settings.name)
        case HttpSettings() as switch:
            return HttpSwitch(switch)
        case AliasSettings(aliases=aliases):
            if not isinstance(store, AliasKeeper):
                raise Refused("unsupported", "cutover.switch: the target has no aliases")
            return AliasSwitch(store, aliases, settings.collections)
