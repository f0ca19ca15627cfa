"""The kill harness: what it makes of a ledger, and a short run of it against the engine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos.disturbance import Disturbance, Kind
from benchmarks.chaos.ledger import ACCEPTED, BEGAN, ENDED, OFFERED, RECORD, Books, Follower, Ledger
from benchmarks.chaos.plan import Plan
from benchmarks.chaos.verdict import AckAction, Terms, judge, promises

ROOT = Path(__file__).resolve().parents[3]
TERMS = Terms(patience=10, margin=5)
KILLS, SECONDS = 6, 16


@dataclass(frozen=True)
class SmallRun:
    """The exit code of the harness, what it printed, and its report."""

    code: int
    output: str
    report: dict[str, Any]


@dataclass
class JournalRecorder:
    """A made-up run, told in order."""

    books: Books = field(default_factory=Books)
    disturbances: list[Disturbance] = field(default_factory=list)

    def accepted(self, mark: str, *, at: float = 0.0, key: str | None = None, place: int = 0) -> None:
        self.books.add_offer([OFFERED, mark, at, f"id-of-{mark}", "short", key, place, 0.0])
        self.books.add_offer([ACCEPTED, mark, at])

    def ran(self, mark: str, began: float, ended: float | None, *, worker: str = "solo-1.1", pid: int = 1) -> None:
        nonce = str(began)
        self.books.add_run([BEGAN, mark, began, worker, pid, nonce])
        if ended is not None:
            self.books.add_run([ENDED, mark, ended, worker, pid, nonce])

    def disturbed(self, kind: Kind, at: float, *, worker: str = "solo-1.1", pid: int = 1, until: float = 0.0) -> None:
        self.disturbances.append(Disturbance(len(self.disturbances) + 1, kind, at, worker, pid, until))

    def verdict(self, terms: Terms = TERMS) -> AckAction:
        return judge(self.books, self.disturbances, terms=terms)

    def broken(self) -> list[str]:
        return [one.name for one in promises(self.verdict(), terms=TERMS, ordered=True) if not one.held]


def test_a_task_that_ended_once_breaks_no_promise() -> None:
    history = JournalRecorder()
    history.accepted("a")
    history.ran("a", 1, 2)

    assert history.broken() == []


def test_an_accepted_task_that_never_ended_is_lost_with_the_nearest_kill_named() -> None:
    history = JournalRecorder()
    history.accepted("a")
    history.accepted("b")
    history.ran("b", 1, 2)
    history.disturbed(Kind.WORKER, 0.1, worker="prefork-1.1")

    lost = history.verdict().lost
    assert [one.mark for one in lost] == ["a"]
    assert lost[0].what == "never begun; gone from the server"
    assert lost[0].explained_by == ("near #1 worker prefork-1.1 (+0.10 s)",)
    assert history.broken() == ["nothing accepted is lost"]
    held = Terms(patience=10, margin=5, held={"id-of-a": "unacked"})
    assert history.verdict(held).lost[0].what == "never begun; still in unacked"


def test_a_refused_task_is_not_lost() -> None:
    history = JournalRecorder()
    history.books.add_offer([OFFERED, "a", 0.0, "id", "short", None, 0, 0.0])

    assert history.verdict().lost == []


@pytest.mark.parametrize(
    ("kind", "at", "until", "explained"),
    [
        (Kind.WORKER, 1.5, 0.0, True),
        (Kind.WORKER, 2.3, 0.0, True),  # ended, but its ack may not have been sent
        (Kind.WORKER, 9.0, 0.0, False),
        (Kind.CHILD, 1.5, 0.0, True),
        (Kind.STOP, 1.5, 13.0, True),
        (Kind.STOP, 0.5, 0.9, False),  # the worker began it after it was allowed to go on
        (Kind.SERVER, 0.5, 1.5, True),
        (Kind.SERVER, 0.5, 0.9, False),
        (Kind.CUT, 1.5, 0.0, False),
        (Kind.RESTART, 1.5, 0.0, False),
        (Kind.PRODUCER, 1.5, 0.0, False),
    ],
)
def test_a_duplicate_is_explained_only_by_what_struck_while_it_ran(
    kind: Kind, at: float, until: float, *, explained: bool
) -> None:
    history = JournalRecorder()
    history.accepted("a")
    history.ran("a", 1, 2)
    history.ran("a", 12, 13, worker="solo-2.1", pid=2)
    history.disturbed(kind, at, until=until)

    verdict = history.verdict()
    assert len(verdict.duplicated) == 1
    assert bool(verdict.duplicated[0].explained_by) is explained
    assert ("nothing runs twice without reason" in history.broken()) is not explained


def test_the_kill_of_another_worker_or_child_explains_nothing() -> None:
    history = JournalRecorder()
    history.accepted("a")
    history.ran("a", 1, 2)
    history.ran("a", 1.2, 2.2, worker="solo-2.1", pid=2)
    history.disturbed(Kind.CHILD, 1.5, pid=3)
    history.disturbed(Kind.WORKER, 1.5, worker="threads-3.1")

    assert len(history.verdict().unexplained) == 1


def test_the_dead_are_not_struck_again() -> None:
    history = JournalRecorder()
    history.accepted("a")
    history.ran("a", 1, None)
    history.ran("a", 5, 6, worker="solo-2.1", pid=2)
    history.ran("a", 7, 8, worker="solo-3.1", pid=3)
    history.disturbed(Kind.WORKER, 1.5)
    history.disturbed(Kind.SERVER, 3, until=4)

    verdict = history.verdict()
    assert (len(verdict.unexplained), verdict.at_risk) == (1, 1)


def test_two_repetitions_need_two_executions_that_were_struck() -> None:
    history = JournalRecorder()
    history.accepted("a")
    history.ran("a", 1, None)
    history.ran("a", 3, 4, worker="solo-2.1", pid=2)
    history.ran("a", 5, 6, worker="solo-3.1", pid=3)
    history.disturbed(Kind.WORKER, 1.5)

    assert len(history.verdict().unexplained) == 1
    history.disturbed(Kind.WORKER, 4.1, worker="solo-2.1", pid=2)
    assert history.verdict().unexplained == []


def test_recovery_counts_from_the_kill_to_the_next_beginning_and_has_a_limit() -> None:
    history = JournalRecorder()
    history.accepted("a")
    history.ran("a", 1, None)
    history.disturbed(Kind.WORKER, 2)
    history.ran("a", 17.5, 18, worker="solo-2.1", pid=2)

    verdict = history.verdict()
    assert (verdict.recovery, len(verdict.over_limit)) == ([15.5], 1)
    history.disturbed(Kind.SERVER, 5, until=6)  # a second without a server is not the transport's doing
    assert history.verdict().over_limit == []


def test_recovery_counts_for_what_was_only_held_and_anew_when_the_next_holder_dies() -> None:
    history = JournalRecorder()
    history.accepted("a")
    history.disturbed(Kind.WORKER, 2)
    history.disturbances[-1].held = ["a"]
    history.disturbed(Kind.WORKER, 13, worker="solo-2.1", pid=2)
    history.disturbances[-1].held = ["a"]
    history.ran("a", 24, 25, worker="solo-3.1", pid=3)

    assert (history.verdict().recovery, history.verdict().over_limit) == ([11], [])
    history.disturbances[-1].held = []
    assert (history.verdict().recovery, len(history.verdict().over_limit)) == ([22], 1)


@pytest.mark.parametrize(
    ("runs", "violations"),
    [
        ([("a", 1, 2), ("b", 3, 4)], 0),
        ([("b", 1, 2), ("a", 3, 4)], 1),
        ([("a", 1, 3), ("b", 2, 4)], 1),
        ([("a", 1, 2), ("b", 3, 4), ("a", 5, 6)], 1),
    ],
)
def test_tasks_of_a_key_must_begin_in_order_and_not_overlap(
    runs: list[tuple[str, float, float]], violations: int
) -> None:
    history = JournalRecorder()
    history.accepted("a", key="k", place=1)
    history.accepted("b", key="k", place=2)
    for number, (mark, began, ended) in enumerate(runs):
        history.ran(mark, began, ended, worker=f"solo-{number}.1", pid=number)

    assert len(history.verdict().order) == violations


def test_what_a_stopped_worker_still_executes_does_not_count_as_an_overlap() -> None:
    history = JournalRecorder()
    history.accepted("a", key="k", place=1)
    history.accepted("b", key="k", place=2)
    history.ran("a", 1, 16)
    history.ran("a", 12, 13, worker="solo-2.1", pid=2)
    history.ran("b", 14, 15, worker="solo-2.1", pid=2)
    history.disturbed(Kind.STOP, 1.5, until=15.5)

    assert history.verdict().order == []


def test_the_ledger_is_read_as_it_grows_in_records_of_one_size(tmp_path: Path) -> None:
    plan = Plan(folder=tmp_path)
    follower = Follower(plan)
    producer, worker = Ledger(plan.accepted_log), Ledger(plan.executed_log)
    producer.write(OFFERED, "a", "id", "short", None, 0, 0.0)
    producer.write(ACCEPTED, "a")
    worker.write(BEGAN, "a", "solo-1.1", 7, "0")

    assert (follower.refresh().waiting(), len(follower.books.running)) == (1, 1)
    worker.write(ENDED, "a", "solo-1.1", 7, "0")
    assert (follower.refresh().waiting(), len(follower.books.running)) == (0, 0)
    assert plan.executed_log.stat().st_size == 2 * RECORD


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run of half a minute against the engine: every kind of disturbance at least once."""
    folder = tmp_path_factory.mktemp("chaos")
    argv = [
        sys.executable,
        "-m",
        "benchmarks.chaos",
        "--transport",
        "laneway",
        "--kills",
        str(KILLS),
        "--seconds",
        str(SECONDS),
        "--lease",
        "6",
        "--margin",
        "10",
        "--pools",
        "prefork,solo,threads",
        "--rate",
        "16",
        "--folder",
        str(folder),
    ]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    output = ended.stdout + ended.stderr
    assert ended.returncode in (0, 1), output
    return SmallRun(ended.returncode, output, json.loads((folder / "report.json").read_text())["runs"][0])


def test_the_engine_loses_nothing_under_a_few_kills_of_everything(small_run: SmallRun) -> None:
    kinds = [one["kind"] for one in small_run.report["disturbances"]]
    assert sum(kind in ("child", "worker") for kind in kinds) == KILLS
    assert {"server", "cut", "stop", "producer", "restart"} <= set(kinds)
    assert small_run.report["summary"]["accepted"] > SECONDS
    assert small_run.report["summary"]["lost"] == 0, small_run.output
    assert small_run.report["drained_after"] is not None, small_run.output


def test_the_engine_keeps_every_promise_under_a_few_kills_of_everything(small_run: SmallRun) -> None:
    assert small_run.code == 0, small_run.output
    assert small_run.report["clean"]
