"""The list of faults fits the code of today; and the runner tells a hole from a catch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOT, chosen, told
from tests.mutants.faults import Fault, Stale, load, rotten
from tests.mutants.trial import Outcome, Scratch


@pytest.mark.parametrize("fault", load(), ids=lambda fault: fault.name)
def test_each_fault_can_be_planted_in_the_code_of_today(fault: Fault) -> None:
    assert rotten(fault, ROOT) == ""
    assert fault.says.endswith("."), "one sentence says what would be wrong"


def test_no_two_faults_are_one() -> None:
    faults = load()
    assert len(faults) >= 60
    assert len({(fault.path, fault.old, fault.new) for fault in faults}) == len(faults)


def test_two_faults_of_one_name_are_refused(tmp_path: Path) -> None:
    one = "[[file]]\npath='a'\ntests=[]\n[[file.fault]]\nname='n'\nsays=''\nold='1'\nnew='2'\n"
    (tmp_path / "a.toml").write_text(one + one)
    with pytest.raises(Stale, match="two faults of one name: n"):
        load(tmp_path)


def fault(old: str, new: str, path: str = "sums.py") -> Fault:
    return Fault("name", "says", path, old, new, ("test_sums.py",))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scratch]:
    root, copy = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("copy")
    (root / "sums.py").write_text("def add(a, b):\n    return a + b\n\nUNTESTED = 1\n")
    (root / "test_sums.py").write_text(
        "import sums\n\n\ndef test_adds():\n    assert sums.add(1, 2) == 3\n"
    )
    made = Scratch(root, copy, ("sums.py", "test_sums.py"), within_s=30.0)
    yield made
    made.close()


def test_the_runner_knows_a_catch_a_hole_and_a_fault_that_rotted(scratch: Scratch) -> None:
    assert scratch.sound(["test_sums.py"]) == ""
    caught = scratch.judge(fault("a + b", "a - b"))
    assert (caught.outcome, caught.detail) == (Outcome.KILLED, "test_sums.py::test_adds")
    survivor = scratch.judge(fault("UNTESTED = 1", "UNTESTED = 2"))
    assert survivor.outcome is Outcome.SURVIVED
    gone = scratch.judge(fault("a * b", "a - b"))
    assert gone.outcome is Outcome.STALE
    twice = scratch.judge(fault("a", "c"))
    assert twice.outcome is Outcome.STALE
    nowhere = scratch.judge(fault("a + b", "a - b", "other.py"))
    assert nowhere.outcome is Outcome.STALE
    assert scratch.sound(["test_sums.py"]) == "", "each fault is taken out again"
    assert told([caught]) == 0
    assert told([caught, survivor]) == 1
    assert told([caught, gone]) == 1


def test_a_fault_that_keeps_the_code_from_loading_proves_nothing(scratch: Scratch) -> None:
    unloadable = scratch.judge(fault("UNTESTED = 1", "import nothing_of_that_name"))
    assert unloadable.outcome is Outcome.STALE


def test_faults_are_chosen_by_name_or_file() -> None:
    one, other = fault("a", "b"), Fault("other", "", "x/two.py", "", "", ())
    assert chosen([one, other], []) == [one, other]
    assert chosen([one, other], ["oth*"]) == [other]
    assert chosen([one, other], ["sums.py"]) == [one]
