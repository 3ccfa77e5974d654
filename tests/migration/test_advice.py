"""What to do about a reason depends on the log that there is."""

from __future__ import annotations

from replicator.errors import CHANGELOG_HINTS, CODES, hint_of
from replicator.migration.cutover.advice import advised
from replicator.migration.cutover.gate import BLOCKERS
from replicator.model.finding import Blocker


def test_no_hint_for_a_change_log_speaks_of_kafka() -> None:
    for code in {*CODES, *BLOCKERS, *CHANGELOG_HINTS}:
        [told] = advised([Blocker(code, "so it is")], "changelog")
        assert told.hint, code
    for code in ("feed-unavailable", "topic-missing", "lag-unknown", "retention-short"):
        [told] = advised([Blocker(code, "so it is")], "changelog")
        for word in ("broker", "bootstrap_servers", "Kafka", "retention.ms"):
            assert word not in told.hint
        assert told.hint == hint_of(code, "changelog")


def test_a_gates_own_sentence_comes_before_that_of_an_error_of_its_name() -> None:
    [told] = advised([Blocker("group-foreign", "somebody")], "kafka")
    assert told.hint == BLOCKERS["group-foreign"] != CODES["group-foreign"]
