"""
What a store keeps that is reached by TCP, with a proxy between it and its server.

Most laws are tried at every request that an operation makes, one after the other, since nobody
outside a connector knows which of them writes. What matters then is asked of the server itself:
has this request, whose answer nobody heard, changed anything? If so, only `OutcomeUnknown` says
the truth, because a `Retryable` is repeated at once, and a late write would overtake what came
after.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar

import msgspec
import pytest

from replicator.errors import (
    OutcomeUnknown,
    Refused,
    ReplicatorError,
    Retryable,
    Unavailable,
)
from replicator.ports.store import Store
from replicator.testing.proxy import Caught, Proxy, Reply
from replicator.testing.store_faults.cells import Cell
from replicator.testing.store_faults.operations import (
    READS,
    WRITES,
    Case,
    State,
    error_of,
)
from replicator.testing.store_faults.suite import MISSING, StoreFaults

SECRET = "s3cret-of-the-faults"  # noqa: S105 - it opens nothing
"""The key that every store of the suite is given."""

SOME = ("scan", "upsert", "ensure")
"""Operations for those laws that hang less on what is asked than on how."""

_REQUESTS_MAX = 50
"""Of one operation on three points: far more than any needs."""

_SOME_BYTES = 12
"""Of a request or a reply that breaks off: less than any of them has."""


class Throttling(msgspec.Struct, frozen=True):
    """What a server says to too many requests, and how long it asks to wait, if it does."""

    reply: Reply
    retry_after_s: float | None


class Stage(msgspec.Struct, frozen=True):
    """A store at a proxy of its own, and what it is to do."""

    proxy: Proxy
    store: Store
    direct: Store
    case: Case


Fault = Callable[[Stage, Caught, "asyncio.Task[ReplicatorError | None]"], Awaitable[None]]


class ServerFaults(StoreFaults):
    """
    The suite. Give a fixture `address`, the `host:port` of a server without TLS, and the hooks
    `open`, `throttling`, `denials`, and those of `StoreFaults` but `away`.
    """

    timeout_s: ClassVar[float] = 2.0
    """Of a request, where the server hangs. On a busy machine an ordinary one needs a part."""
    margin_s: ClassVar[float] = 15.0
    """How much later than its timeout a request may end; one that knows none never does."""
    at_once: ClassVar[int] = 200
    """Stores that may be open to the server together."""
    between: ClassVar[str] = ""
    """Why a write that broke off may leave something between the old and the new point."""

    def open(self, address: str, timeout_s: float, secret: str) -> Store:
        """A store of the kind, with this timeout of a request, that sends this key."""
        raise NotImplementedError("say how a store is opened at an address")

    throttling: ClassVar[Sequence[Throttling]] = ()
    """Answers of a server that is asked too often."""

    def denials(self, secret: str) -> Sequence[Reply]:
        """Answers to a wrong key, which may repeat it."""
        raise pytest.fail.Exception("credentials: give `denials`, or a reason in `excused`")

    def away(self) -> AbstractAsyncContextManager[None]:
        """The proxy refuses connections."""
        return self._away()

    @asynccontextmanager
    async def _away(self) -> AsyncIterator[None]:
        await self._proxy.refuse()
        yield
        await self._proxy.accept()

    @pytest.fixture
    async def direct(self, address: str) -> AsyncIterator[Store]:
        """A store without the proxy."""
        store = self.open(address, 30.0, SECRET)
        yield store
        await store.close()

    @pytest.fixture
    async def store(self, address: str) -> AsyncIterator[Store]:
        """The store at the proxy."""
        async with Proxy(address) as self._proxy:
            store = self.open(self._proxy.address, 30.0, SECRET)
            yield store
            await store.close()

    # -- laws -------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("name", "shown"),
        [(name, 0) for name in READS + WRITES] + [(name, _SOME_BYTES) for name in SOME],
    )
    async def test_a_lost_reply_is_an_unknown_outcome_where_anything_was_written(
        self, address: str, direct: Store, name: str, shown: int
    ) -> None:
        self.needs(Cell.LOST_REPLY, name)
        changes: list[bool] = []

        async def lose(
            stage: Stage, caught: Caught, task: asyncio.Task[ReplicatorError | None]
        ) -> None:
            before = await self.state(direct, stage.case.collection)
            await caught.deliver(shown)
            after = await self.state(direct, stage.case.collection)
            caught.cut()
            changes.append(before != after)
            self._judge(stage.case, await task, after, changed=before != after)
            await self._same_again(stage)

        await self._at_each_request(address, direct, name, lose)
        # Else nothing was tried.
        assert any(changes) is (name in WRITES)

    @pytest.mark.parametrize("name", WRITES)
    async def test_a_request_that_breaks_off_can_be_made_again(
        self, address: str, direct: Store, name: str
    ) -> None:
        self.needs(Cell.LOST_REPLY, name)

        async def break_off(
            stage: Stage, caught: Caught, task: asyncio.Task[ReplicatorError | None]
        ) -> None:
            caught.cut(_SOME_BYTES)
            error = await task
            assert error is None or isinstance(error, Retryable), error
            await self._same_again(stage)

        await self._at_each_request(address, direct, name, break_off)

    async def test_a_server_that_hangs_is_left_in_time_and_what_it_does_later_is_unknown(
        self, address: str, direct: Store
    ) -> None:
        self.needs(Cell.HANG)
        names = [name for name in READS + WRITES if self.can(name)]
        room = asyncio.Semaphore(self.at_once)
        async with asyncio.TaskGroup() as group:
            for name in names:
                requests = await self._requests_of(address, direct, name)
                # What is true of one request of a read is true of the others.
                for number in range(1, 1 + (requests if name in WRITES else 1)):
                    for late in (True, False):
                        group.create_task(
                            self._hangs(address, direct, name, number, room, late=late),
                            name=f"{name}, request {number}",
                        )

    @pytest.mark.parametrize("name", READS + WRITES)
    async def test_a_throttled_request_waits_as_long_as_it_was_told(
        self, address: str, direct: Store, name: str
    ) -> None:
        self.needs(Cell.THROTTLED, name)
        assert self.throttling, "throttled: give `throttling`, or a reason in `excused`"
        for told in self.throttling:

            async def throttle(
                stage: Stage,
                caught: Caught,
                task: asyncio.Task[ReplicatorError | None],
                told: Throttling = told,
            ) -> None:
                caught.answer(told.reply)
                error = await task
                if error is not None:
                    assert type(error) is Retryable, error
                    assert error.code == "store-throttled"
                    assert error.retry_after_s == told.retry_after_s
                await self._same_again(stage)

            await self._at_each_request(address, direct, name, throttle)

    @pytest.mark.parametrize("name", READS + WRITES)
    async def test_wrong_credentials_are_refused_at_once_and_not_shown(
        self, address: str, direct: Store, name: str
    ) -> None:
        self.needs(Cell.CREDENTIALS, name)
        for denial in self.denials(SECRET):

            async def deny(
                stage: Stage,
                caught: Caught,
                task: asyncio.Task[ReplicatorError | None],
                denial: Reply = denial,
            ) -> None:
                made = stage.proxy.requests
                caught.answer(denial)
                error = await task
                if error is None:
                    # It can do without what it was denied.
                    state = await self.state(direct, stage.case.collection)
                    self.check_state(state, stage.case.new)
                    return
                assert isinstance(error, Refused), error
                assert error.code == "permission-denied"
                assert "credentials" in error.hint
                assert SECRET not in f"{error!r} {error} {error.message}"
                assert stage.proxy.requests == made, "it asked again"

            await self._at_each_request(address, direct, name, deny)

    @pytest.mark.parametrize("name", [*READS, "upsert", "patch", "delete"])
    async def test_a_collection_that_goes_away_meanwhile_is_not_made_anew(
        self, address: str, direct: Store, name: str
    ) -> None:
        self.needs(Cell.GONE, name)

        async def go(
            stage: Stage, caught: Caught, task: asyncio.Task[ReplicatorError | None]
        ) -> None:
            await self.drop(direct, stage.case.collection)
            caught.pass_on()
            error = await task
            # Where the request asked for nothing of the collection, the next one is refused.
            assert error is None or (isinstance(error, Refused) and error.code in MISSING), (
                error
            )
            assert error is None or name != "describe"
            if not self.traits.creates_on_write:
                assert await direct.describe(stage.case.collection) is None

        await self._at_each_request(address, direct, name, go, gone=True)

    async def test_an_answer_that_takes_its_time_is_waited_for(
        self, address: str, direct: Store
    ) -> None:
        for name in filter(self.can, READS + WRITES):
            case = await self.case(direct, name)
            async with self._stage(address, direct, case) as stage:
                caught = stage.proxy.catch()
                task = asyncio.create_task(error_of(stage.case.call(stage.store)), name=name)
                assert await caught.comes(task)
                assert not task.done()
                caught.pass_on()
                assert await task is None
                state = await self.state(direct, stage.case.collection)
                self.check_state(state, stage.case.new)

    @pytest.mark.parametrize("name", SOME)
    async def test_closing_breaks_off_what_is_under_way_and_cancels_nobody(
        self, address: str, direct: Store, name: str
    ) -> None:
        self.needs(Cell.LOST_REPLY, name)

        async def close(
            stage: Stage, caught: Caught, task: asyncio.Task[ReplicatorError | None]
        ) -> None:
            before = await self.state(direct, stage.case.collection)
            await stage.store.close()
            await asyncio.wait({task}, timeout=self.margin_s)
            assert task.done()
            assert not task.cancelled()
            await caught.deliver()
            after = await self.state(direct, stage.case.collection)
            self._judge(stage.case, task.result(), after, changed=before != after)
            assert task.result() is not None
            # Who asks a closed store is told so, and connects to nothing.
            error = await error_of(stage.case.call(stage.store))
            assert isinstance(error, Unavailable), error

        await self._at_each_request(address, direct, name, close)

    @pytest.mark.parametrize("name", SOME)
    async def test_a_call_that_is_cancelled_ends_and_the_store_goes_on(
        self, address: str, direct: Store, name: str
    ) -> None:
        self.needs(Cell.LOST_REPLY, name)

        async def cancel(
            stage: Stage, caught: Caught, task: asyncio.Task[ReplicatorError | None]
        ) -> None:
            task.cancel()
            await asyncio.wait({task}, timeout=self.margin_s)
            assert task.cancelled()
            caught.cut()
            await self._same_again(stage)

        await self._at_each_request(address, direct, name, cancel)

    # -- what the laws share ----------------------------------------------------------------

    @asynccontextmanager
    async def _stage(
        self, address: str, direct: Store, case: Case, timeout_s: float = 30.0
    ) -> AsyncIterator[Stage]:
        """However it ends, a store that is closed holds no connection."""
        async with Proxy(address) as proxy:
            store = self.open(proxy.address, timeout_s, SECRET)
            try:
                yield Stage(proxy, store, direct, case)
            finally:
                await store.close()
            async with asyncio.timeout(self.recovery_s):
                await proxy.idle()

    async def _at_each_request(
        self, address: str, direct: Store, name: str, fault: Fault, *, gone: bool = False
    ) -> None:
        """Let a fault meet the first request of an operation, then the second, and so on."""
        case = await self.case(direct, name)
        for number in range(1, _REQUESTS_MAX):
            if number > 1:
                case = await (self.case(direct, name) if gone else self.renewed(direct, case))
            async with self._stage(address, direct, case) as stage:
                caught = stage.proxy.catch(number)
                task = asyncio.create_task(error_of(stage.case.call(stage.store)), name=name)
                if not await caught.comes(task):
                    assert number > 1, f"{name} asks the server nothing"
                    # What a store says when it hangs up is no request of the operation.
                    stage.proxy.spare()
                    assert await task is None
                    return
                await fault(stage, caught, task)
        pytest.fail(f"{name} makes more than {_REQUESTS_MAX} requests")

    async def _requests_of(self, address: str, direct: Store, name: str) -> int:
        case = await self.case(direct, name)
        async with self._stage(address, direct, case) as stage:
            await stage.case.call(stage.store)
            return stage.proxy.requests

    async def _hangs(
        self,
        address: str,
        direct: Store,
        name: str,
        number: int,
        room: asyncio.Semaphore,
        *,
        late: bool,
    ) -> None:
        """The server gets the request late, or is silent in the middle of its answer."""
        case = await self.case(direct, name)
        async with room, self._stage(address, direct, case, self.timeout_s) as stage:
            collection = stage.case.collection
            caught = stage.proxy.catch(number)
            task = asyncio.create_task(error_of(stage.case.call(stage.store)), name=name)
            assert await caught.comes(task)
            before = await self.state(direct, collection)
            if not late:
                await caught.deliver(_SOME_BYTES)
            async with asyncio.timeout(self.timeout_s + self.margin_s):
                error = await task
            assert error is not None
            if late:
                await caught.deliver()
            after = await self.state(direct, collection)
            caught.cut()
            self._judge(stage.case, error, after, changed=before != after)
            await self._same_again(stage)

    def _judge(
        self, case: Case, error: ReplicatorError | None, after: State, *, changed: bool
    ) -> None:
        """What an operation may say whose answer was lost."""
        # None: it has asked again by itself.
        assert error is None or isinstance(error, Retryable), error
        if not case.writes:
            assert error is None or isinstance(error, Unavailable), error
        elif changed:
            assert error is None or isinstance(error, OutcomeUnknown), error
        if not self.between:
            for point_id in after.points.keys() | case.old.points.keys():
                found = after.points.get(point_id)
                assert found in (case.old.points.get(point_id), case.new.points.get(point_id))

    async def _same_again(self, stage: Stage) -> None:
        """The same store does the same once more, and all is well."""
        await self.again(stage.store, stage.case)
        state = await self.state(stage.direct, stage.case.collection)
        self.check_state(state, stage.case.new)
