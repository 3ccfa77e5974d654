"""Which program writes the feed's records, and so what reads them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from replicator.codecs.airbyte import AirbyteDecoder
from replicator.codecs.captured import Table
from replicator.codecs.debezium import DebeziumDecoder
from replicator.codecs.events import EventDecoder
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key
from replicator.model.phase import Direction
from replicator.model.position import Record
from replicator.model.scopes import Scopes
from replicator.ports.feed import Decoder
from replicator.settings.feeds import FeedSettings, NoFeedSettings, TableSettings


class LeftBehind:
    """
    A `Decoder` of a database that the application has left. What it still tells was written
    there by somebody who should not, or by our own reverse stream: to apply it there would make
    it tell the same again, for ever.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def decode(self, record: Record) -> ChangeEvent | None:
        """See `Decoder.decode`: nothing of it may be applied."""
        if self._decoder.decode(record) is None:
            return None
        raise Rejected(
            "epoch-stale", "the source's database was changed after the switch to the target"
        )

    def key(self, record: Record) -> Key | None:
        """See `Decoder.key`."""
        return self._decoder.key(record)


def make_decoder(
    feed: FeedSettings,
    integer_ids: Mapping[str, bool | None],
    direction: Direction,
    *,
    scopes: Mapping[str, Scopes] = MappingProxyType({}),
) -> Decoder:
    """
    The decoder that the settings name. Without a feed there are no records to read. `scopes`:
    of collections whose keys hold one, which travel; no database's changes say one.
    """
    assert not isinstance(feed, NoFeedSettings), "no feed, no records"
    if feed.decoder == "replicator":
        return EventDecoder(integer_ids, int(feed.event_bytes_max), scopes)
    reader = DebeziumDecoder if feed.decoder == "debezium" else AirbyteDecoder
    decoder = reader(
        {each.collection: _table(each) for each in feed.tables},
        integer_ids,
        int(feed.event_bytes_max),
        feed.placeholder,
    )
    return decoder if direction is Direction.FORWARD else LeftBehind(decoder)


def whose_events(feed: FeedSettings) -> list[str]:
    """Why the feed has no events of the application once it is on the target; mostly empty."""
    if isinstance(feed, NoFeedSettings) or feed.decoder == "replicator":
        return []
    return ["the feed tells what the source's database changes, and nothing of the target's"]


def _table(settings: TableSettings) -> Table:
    return Table(
        key=tuple(settings.key),
        vectors=settings.vectors,
        payload=settings.payload,
        fields=tuple(settings.fields),
        json=tuple(settings.json),
        schema=settings.schema,
    )
