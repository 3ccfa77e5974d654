"""Every command line of the pages is given as it stands there, to a migration in memory."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from replicator.migration.process.tuning import TUNABLE
from replicator.model.event import Key
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.phase import Phase
from replicator.model.position import Partition
from replicator.testing.memory_control import EPOCH_S, MemoryControl
from tests.cli.conftest import Run
from tests.docs.tables import ROOT
from tests.docs.test_pages import PAGES, blocks

_ALONE = {
    "run",
    "migrate",
    "demo",
    "init",
    "local-store",
    "emit",
    "check",
    "plan",
    "export",
    "import",
}
"""What works without a daemon, on stores; the README's are run on real ones."""
_ASKS = {"cutover", "revert", "complete", "abort"}
_ENDLESS = {"--watch", "--follow"}


def documented() -> list[tuple[str, str]]:
    """(page, command line), each line once."""
    found: dict[str, str] = {}
    for page in PAGES:
        for block in blocks(page, ""):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["replicator"] and words[1] not in _ALONE:
                    found.setdefault(" ".join(words[1:]), str(page.relative_to(ROOT)))
    return [(page, line) for line, page in found.items()]


@pytest.fixture
def control(control: MemoryControl, tmp_path: Path) -> MemoryControl:
    """With something of everything that a page may speak of."""
    record = RejectedRecord(
        key=b"articles/1",
        value=b"{}",
        code="field-type",
        path="payload",
        message="no map",
        at=EPOCH_S,
        partition=Partition("t/0"),
        offset=1,
        event_key=Key("articles", 1),
    )
    letter = DeadLetter(
        number=1,
        ref="letters/1",
        state=LetterState.OPEN,
        code=record.code,
        path=record.path,
        message=record.message,
        at=record.at,
        partition=record.partition,
        offset=record.offset,
        event_key=record.event_key,
    )
    control.kept[1] = (letter, record)
    control.latched = {"misplaced-keys"}
    control.tunables = dict.fromkeys(TUNABLE, "1")
    (tmp_path / "queries.jsonl").write_text('{"vector": [1.0, 2.0], "limit": 3}\n')
    return control


@pytest.mark.parametrize(("page", "line"), documented())
def test_a_command_line_of_the_pages_does_what_it_says(
    replicator: Run,
    control: MemoryControl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    page: str,
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word for word in line.split() if word not in _ENDLESS]
    if words[0] == "own":
        control.shown.phase = Phase.HELD
    yes = ["--yes"] if words[0] in _ASKS and "--dry-run" not in words else []
    result = replicator(*words, *yes)
    # Where there is no import and no question, the line is right all the same.
    absent = any(
        f"error[{code}]" in result.stderr for code in ("state-missing", "phase-refused")
    )
    assert result.exit_code == 0 or (absent and {"--import", "answer"} & {*words}), (
        f"{page}: {line}: {result.stdout} {result.stderr}"
    )
    assert result.exception is None or isinstance(result.exception, SystemExit)
