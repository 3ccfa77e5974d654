"""Traffic switches: by a person's word, over HTTP, and by the aliases of a store."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from replicator.errors import OutcomeUnknown, Refused, ReplicatorError, Retryable
from replicator.model.phase import Direction
from replicator.ports.store import AliasKeeper
from replicator.ports.traffic import Pointer
from replicator.settings.cutover import HttpSettings
from replicator.settings.transform import CollectionSettings
from replicator.traffic.person import Person
from replicator.traffic.request import Reply, ReplyLost, request


class ManualSwitch:
    """A person moves the traffic, and says so. Implements ports.store.Switch."""

    def __init__(self, person: Person, name: str = "the application") -> None:
        self._person = person
        self._name = name

    @property
    def repeatable(self) -> bool:
        """A person can be asked twice."""
        return True

    async def to(self, direction: Direction, epoch: int) -> None:
        """Ask whether it is done. Raises Refused ("declined") on a no."""
        yes = await self._person.ask(
            "switch",
            f"Send the traffic of {self._name} to the {_store(direction)} now (epoch {epoch}). "
            "Answer yes once it is done.",
        )
        if not yes:
            raise Refused("declined", f"the traffic was not sent to the {_store(direction)}")

    async def current(self) -> Pointer | None:
        """Only a person knows."""
        return None


class _Active(msgspec.Struct):
    """The reply to GET."""

    active: str
    epoch: int | None = None


class HttpSwitch:
    """
    The application switches itself: the protocol is in `settings.cutover`. Implements
    ports.store.Switch.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings

    @property
    def repeatable(self) -> bool:
        """It names the store to use, and an epoch."""
        return True

    async def to(self, direction: Direction, epoch: int) -> None:
        """
        Raises, as "switch-failed", Unavailable or Retryable when nothing can have happened,
        OutcomeUnknown when the reply is lost or a failure of the server, Refused on a no.
        """
        body = {"to": _store(direction), "epoch": epoch}
        try:
            reply = await self._send("POST", body)
        except ReplyLost as error:
            raise OutcomeUnknown("switch-failed", error.message) from error
        if reply.ok:
            return
        message = f"the switch to the {_store(direction)} failed: {reply}"
        if reply.busy:
            raise Retryable("switch-failed", message)
        if reply.status >= 500:
            raise OutcomeUnknown("switch-failed", message)
        raise Refused("switch-failed", message)

    async def current(self) -> Pointer | None:
        """
        What the application says; None when it does not say it in our words. Raises Retryable
        ("switch-failed") when it does not answer.
        """
        reply = await self._send("GET", None)
        if reply.busy:
            raise Retryable("switch-failed", f"the switch cannot be read now: {reply}")
        if not reply.ok:
            return None
        try:
            answer = msgspec.json.decode(reply.body, type=_Active)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        at = {_store(direction): direction for direction in Direction}.get(answer.active)
        return None if at is None else Pointer(at, answer.epoch)

    async def _send(self, method: str, body: dict[str, object] | None) -> Reply:
        return await request(
            method,
            self._settings.url,
            code="switch-failed",
            timeout_s=self._settings.timeout,
            token=self._settings.token,
            body=body,
        )


class AliasSwitch:
    """
    Readers and writers use an alias for each collection; the store moves it from the source's
    collection to the target's and back. Implements ports.store.Switch.

    One alias moves atomically, several move one after the other, within the closed fence.
    """

    def __init__(
        self,
        store: AliasKeeper,
        aliases: Sequence[str],
        collections: Sequence[CollectionSettings],
    ) -> None:
        """Raises Refused ("config-invalid") unless there is one alias for each collection."""
        if len(aliases) != len(collections) or len(set(aliases)) != len(aliases):
            raise Refused(
                "config-invalid",
                f"cutover.switch.aliases: {len(collections)} collections need as many "
                f"different aliases, not {', '.join(map(repr, aliases)) or 'none'}",
            )
        both = {end for each in collections for end in (each.source, each.target)}
        if taken := both.intersection(aliases):
            # Whoever copies by that name would follow it, and the reverse stream write the
            # store that the application is on.
            raise Refused(
                "config-invalid",
                f"cutover.switch.aliases: {', '.join(sorted(taken))} is what [[collections]] "
                "copies from or to; name there the collections behind the aliases",
            )
        self._store = store
        self._routes = list(zip(aliases, collections, strict=True))

    @property
    def repeatable(self) -> bool:
        """An alias that is there already stays there."""
        return True

    async def to(self, direction: Direction, epoch: int) -> None:
        """
        Move every alias. The epoch does not travel: an alias has no place for it.

        Raises the store's errors while no alias has moved, then OutcomeUnknown.
        """
        moved: list[str] = []
        for alias, collection in self._routes:
            try:
                await self._store.point_alias(alias, _end(collection, direction))
            except ReplicatorError as error:
                if not moved:
                    raise
                raise OutcomeUnknown(
                    "switch-failed",
                    f"of the aliases {', '.join(moved)} moved and {alias} did not: {error}",
                ) from error
            moved.append(alias)

    async def current(self) -> Pointer | None:
        """Where all aliases point; None when they do not agree, or one points elsewhere."""
        ends = [
            (collection, await self._store.read_alias(alias))
            for alias, collection in self._routes
        ]
        for direction in Direction:
            if all(end == _end(collection, direction) for collection, end in ends):
                return Pointer(direction)  # an alias has no place for an epoch
        return None


def _store(direction: Direction) -> str:
    """The store that the application uses in this direction."""
    return "source" if direction is Direction.FORWARD else "target"


def _end(collection: CollectionSettings, direction: Direction) -> str:
    return collection.source if direction is Direction.FORWARD else collection.target
