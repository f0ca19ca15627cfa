"""The verdict of a drill: what is counted as lost, as duplicated and as a slow recovery."""

from __future__ import annotations

from pathlib import Path

from laneway.schemas.choices import Disturbance
from laneway.server.drill.ledger import BEGAN, ENDED, READY, Entry, Ledger, open_at
from laneway.server.drill.report import DrillReport, Observation, judge

AT = 100.0


def ran(number: int, worker: str, at: float, *, ends: float | None = 0.5) -> list[Entry]:
    """A run of a task; `ends`: seconds until its end, None if it was interrupted."""
    entries = [Entry(BEGAN, number, worker, at)]
    return entries if ends is None else [*entries, Entry(ENDED, number, worker, at + ends)]


def judged(*runs: list[Entry], submitted: int, risk: frozenset[int] = frozenset()) -> DrillReport:
    entries = sorted((entry for run in runs for entry in run), key=lambda entry: entry.at)
    seen = Observation("did it", AT, AT, risk, 20.0)
    return judge(Disturbance.KILL_WORKER, entries, seen, submitted=submitted, broker="b", seconds=1.0)


def test_an_interrupted_task_that_runs_again_in_time_is_no_problem() -> None:
    report = judged(
        ran(0, "a", AT - 1, ends=None), ran(0, "b", AT + 9), ran(1, "b", AT + 1), submitted=2, risk=frozenset({0})
    )

    assert report.passed
    assert (report.lost, report.duplicated, report.begun_again, report.recovery_seconds) == ([], [], [0], 9)


def test_a_task_that_never_ended_is_lost() -> None:
    report = judged(ran(0, "a", AT - 1, ends=None), ran(1, "b", AT + 1), submitted=2, risk=frozenset({0}))

    assert (report.passed, report.lost) == (False, [0])
    assert report.verdict == "FAILED: 1 task was lost."


def test_a_task_that_ended_twice_is_duplicated_and_a_problem_only_if_nothing_interrupted_it() -> None:
    twice = [ran(0, "a", AT - 1), ran(0, "b", AT + 5)]

    assert judged(*twice, submitted=1, risk=frozenset({0})).passed
    report = judged(*twice, submitted=1)
    assert (report.passed, report.duplicated) == (False, [0])
    assert "run again, although nothing had interrupted them" in report.verdict


def test_a_recovery_that_takes_too_long_fails() -> None:
    report = judged(ran(0, "a", AT - 1, ends=None), ran(0, "b", AT + 25), submitted=1, risk=frozenset({0}))

    assert not report.passed
    assert "the recovery took 25.0 s, more than 20 s" in report.verdict


def test_the_ledger_keeps_what_was_written_and_knows_what_is_open(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.read() == []
    ledger.write(READY, 0, "a")
    for event, number in ((BEGAN, 0), (ENDED, 0), (BEGAN, 1)):
        ledger.write(event, number, "a")

    entries = ledger.read()

    assert [(entry.event, entry.number) for entry in entries] == [(READY, 0), (BEGAN, 0), (ENDED, 0), (BEGAN, 1)]
    assert open_at(entries, "a", float("inf")) == {1}
    assert open_at(entries, "b", float("inf")) == set()
