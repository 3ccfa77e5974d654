from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import msgspec

from replicator.codecs.events import EventDecoder
from replicator.feeds.changelog import PARTITION, ChangelogFeed
from replicator.model.event import ChangeEvent
from replicator.settings.feeds import ChangelogSettings
from tests.cli.conftest import Run


def upsert(number: int) -> str:
    fields = {
        "op": "upsert",
        "collection": "articles",
        "id": number,
        "vectors": {"": [1, 2]},
        "payload": {},
    }
    return json.dumps(fields)


def emitted(folder: Path) -> list[ChangeEvent]:
    """Every event of the change log."""

    async def read() -> list[ChangeEvent]:
        feed = ChangelogFeed(ChangelogSettings(path=str(folder / "changes.db")), "test")
        decoder = EventDecoder({"articles": True}, 1 << 20)
        try:
            at = (await feed.bounds())[PARTITION]
            pages = [page async for page in feed.read(PARTITION, at.start, at.end)]
        finally:
            await feed.close()
        events = [decoder.decode(record) for page in pages for record in page]
        assert None not in events
        return [event for event in events if event is not None]

    return asyncio.run(read())


def test_events_arrive_in_the_feed_in_their_order(replicator: Run, tmp_path: Path) -> None:
    lines = [upsert(2), '{"op": "delete", "collection": "articles", "id": 1}', "", upsert(1)]
    result = replicator("emit", input="\n".join(lines))
    assert (result.exit_code, result.stdout) == (
        0,
        "emitted 3 events\nchangelog/0: 3, offsets 1 to 3\n",
    )
    told = msgspec.json.decode(replicator("emit", "--json", input=upsert(3)).stdout)
    assert told["places"] == {"changelog/0": {"first": 4, "next": 5, "events": 1}}
    assert emitted(tmp_path)[3].key.id == 3
    lines = [upsert(number) for number in range(1200)]  # more than one batch
    told = msgspec.json.decode(replicator("emit", "--json", input="\n".join(lines)).stdout)
    assert told["places"] == {"changelog/0": {"first": 5, "next": 1205, "events": 1200}}
    events = emitted(tmp_path)[:3]
    assert [(event.op.value, event.key.id) for event in events] == [
        ("upsert", 2),
        ("delete", 1),
        ("upsert", 1),
    ]
    assert all(event.ts_ms > 1_600_000_000_000 for event in events)


def test_a_bad_line_anywhere_in_a_file_emits_nothing(replicator: Run, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    good = [upsert(number) for number in range(1200)]
    bad = ['{"op": "upsert", "collection": "articles", "id": 1, "vectors": {"": [1, "x"]}}']
    file.write_text("\n".join([*good, *bad, "{", upsert(7).replace("articles", "others")]))
    result = replicator("emit", str(file), "--json")
    assert result.exit_code == 1
    told = msgspec.json.decode(result.stdout)
    assert told["emitted"] == 0
    assert [(each["line"], each["code"]) for each in told["bad"]] == [
        (1201, "field-type"),
        (1202, "value-malformed"),
        (1203, "field-invalid"),
    ]
    assert not (tmp_path / "changes.db").exists()


def test_a_field_that_no_event_has_is_named_with_the_nearest_one(replicator: Run) -> None:
    line = upsert(1).replace('"vectors"', '"vector"')
    result = replicator("emit", input=line)
    assert result.exit_code == 1
    assert "line 1: field-unknown" in result.stderr
    assert "'vectors'" in result.stderr


def test_a_byte_order_mark_before_the_first_line_is_passed_over(
    replicator: Run, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + upsert(1).encode() + b"\r\n" + upsert(2).encode())
    result = replicator("emit", str(file))
    assert (result.exit_code, result.stdout) == (
        0,
        "emitted 2 events\nchangelog/0: 2, offsets 1 to 2\n",
    )
    assert [event.key.id for event in emitted(tmp_path)] == [1, 2]


def test_standard_input_is_emitted_up_to_the_bad_batch(replicator: Run, tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        """Bytes that cannot be read twice, as those of a shell's pipe."""

        def seekable(self) -> bool:
            return False

    lines = [*(upsert(number) for number in range(700)), "nonsense", upsert(700)]
    result = replicator("emit", input=Pipe("\n".join(lines).encode()))
    assert result.exit_code == 1
    assert result.stdout == "emitted 500 events\nchangelog/0: 500, offsets 1 to 500\n"
    assert "line 701: value-malformed" in result.stderr
    assert len(emitted(tmp_path)) == 500


def test_without_a_feed_there_is_nowhere_to_emit_to(replicator: Run, config: Path) -> None:
    text = config.read_text()
    head, _, tail = text.partition("[feed]")
    config.write_text(f'{head}[feed]\nkind = "none"\n[state]{tail.partition("[state]")[2]}')
    result = replicator("emit", input=upsert(1))
    assert result.exit_code == 2
    assert "error[unsupported]" in result.stderr


def test_a_folder_that_is_missing_is_named_and_no_broker_is_blamed(
    replicator: Run, config: Path
) -> None:
    config.write_text(config.read_text().replace("/changes.db", "/none/changes.db"))
    result = replicator("emit", input=upsert(1))
    assert result.exit_code == 2
    assert "error[config-invalid]: feed.path: there is no folder" in result.stderr
    assert "broker" not in result.stderr
