"""Every kind of store, feed, fence and switch that the settings know is wired."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.connectors.qdrant.kind import QdrantAliasSettings, QdrantSettings
from replicator.errors import Refused
from replicator.model.phase import Direction, Phase
from replicator.model.record import JournalEntry, MigrationRecord
from replicator.settings.cutover import (
    CutoverSettings,
    HttpSettings,
    ManualSettings,
)
from replicator.settings.feeds import (
    ChangelogSettings,
    KafkaSettings,
    NoFeedSettings,
    TableSettings,
)
from replicator.settings.settings import Settings, StateSettings
from replicator.settings.transform import CollectionSettings
from replicator.wiring import build, load_standing, make_event_log, open_state, state_is_held

KAFKA = KafkaSettings(bootstrap_servers="127.0.0.1:1", topic="articles.changes")
ALIAS = QdrantAliasSettings(aliases=["articles"])


def settings(folder: Path, **changes: object) -> Settings:
    plain = Settings(
        name="articles",
        source=JsonlSettings(path=str(folder / "source")),
        target=JsonlSettings(path=str(folder / "target")),
        collections=[CollectionSettings(source="a", target="b")],
        feed=NoFeedSettings(),
        state=StateSettings(path=str(folder / "state.db")),
    )
    return msgspec.structs.replace(plain, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"source": QdrantSettings(url="http://127.0.0.1:1"), "feed": KAFKA},
        {"feed": ChangelogSettings(path="changes.db")},
        {"cutover": CutoverSettings(fence=ManualSettings(), switch=ManualSettings())},
        {
            "cutover": CutoverSettings(
                fence=HttpSettings(url="http://127.0.0.1:1"),
                switch=HttpSettings(url="http://127.0.0.1:1"),
            )
        },
        {
            "target": QdrantSettings(url="http://127.0.0.1:1"),
            "cutover": CutoverSettings(switch=ALIAS),
        },
    ],
)
async def test_nothing_that_is_built_connects_and_all_is_let_go_of(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    told = settings(tmp_path, **changes)
    async with build(told) as assembly:
        assert state_is_held(told)
        assert await assembly.service.journal(1) == []
    assert not state_is_held(told)


async def test_a_switch_of_aliases_needs_a_store_that_has_them(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="aliases"):
        async with build(settings(tmp_path, cutover=CutoverSettings(switch=ALIAS))):
            pass
    assert not state_is_held(settings(tmp_path))


async def test_a_held_state_is_refused_and_can_still_be_looked_at(tmp_path: Path) -> None:
    told = settings(tmp_path)
    assert (await load_standing(told)).record is None
    record = MigrationRecord(name="articles", revision=1, phase=Phase.REPLAY)
    entry = JournalEntry(
        at=0.0, phase=Phase.REPLAY, direction=Direction.FORWARD, step="phase", message=""
    )
    state = await open_state(told)
    await state.begin(record, entry)
    with pytest.raises(Refused) as caught:
        async with build(told):
            pass
    assert caught.value.code == "state-locked"
    assert (await load_standing(told)).record == record
    await state.close()


async def test_each_feed_has_its_writing_side(tmp_path: Path) -> None:
    for feed in (KAFKA, ChangelogSettings(path=str(tmp_path / "changes.db"))):
        await make_event_log(settings(tmp_path, feed=feed)).close()
    with pytest.raises(Refused, match="nowhere to emit"):
        make_event_log(settings(tmp_path))


async def test_into_a_databases_own_log_nothing_is_emitted(tmp_path: Path) -> None:
    captured = msgspec.structs.replace(
        KAFKA, decoder="debezium", tables=[TableSettings(collection="articles")]
    )
    with pytest.raises(Refused, match="change the rows in the database") as refused:
        make_event_log(settings(tmp_path, feed=captured))
    assert refused.value.code == "unsupported"
