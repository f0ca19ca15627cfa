"""The kill harness: its verdict on a ledger, and a short run against the engine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos.disturbance import Disturbance, Kind
from benchmarks.chaos.ledger import ACCEPTED, BEGAN, ENDED, HUNG, OFFERED, RECORD, Ledger, LedgerReader, LedgerRecords
from benchmarks.chaos.plan import Plan
from benchmarks.chaos.verdict import JudgingTerms, Verdict, judge, promises

ROOT = Path(__file__).resolve().parents[2]
TERMS = JudgingTerms(redelivery_seconds=10, margin=5)
KILLS, SECONDS = 6, 16


@dataclass(frozen=True)
class SmallRun:
    """The exit code, the output and the report of the harness."""

    code: int
    output: str
    report: dict[str, Any]


@dataclass
class SampleRun:
    """A run made up for a test: its events are added in order."""

    records: LedgerRecords = field(default_factory=LedgerRecords)
    disturbances: list[Disturbance] = field(default_factory=list)

    def accepted(self, mark: str, *, at: float = 0.0, key: str | None = None, place: int = 0) -> None:
        self.records.add_offer([OFFERED, mark, at, f"id-of-{mark}", "short", key, place, 0.0])
        self.records.add_offer([ACCEPTED, mark, at])

    def ran(self, mark: str, began: float, ended: float | None, *, worker: str = "solo-1.1", pid: int = 1) -> None:
        nonce = str(began)
        self.records.add_run([BEGAN, mark, began, worker, pid, nonce])
        if ended is not None:
            self.records.add_run([ENDED, mark, ended, worker, pid, nonce])

    def disturbed(
        self, kind: Kind, at: float, *, worker: str = "solo-1.1", pid: int = 1, until: float = 0.0, moved: float = 0.0
    ) -> None:
        self.disturbances.append(Disturbance(len(self.disturbances) + 1, kind, at, worker, pid, until, moved))

    def verdict(self, terms: JudgingTerms = TERMS) -> Verdict:
        return judge(self.records, self.disturbances, terms=terms)

    def broken(self) -> list[str]:
        return [one.name for one in promises(self.verdict(), terms=TERMS, ordered=True) if not one.held]


def test_a_task_that_ended_once_breaks_no_promise() -> None:
    run = SampleRun()
    run.accepted("a")
    run.ran("a", 1, 2)

    assert run.broken() == []


def test_an_accepted_task_that_never_ended_is_lost_and_the_nearest_kill_is_named() -> None:
    run = SampleRun()
    run.accepted("a")
    run.accepted("b")
    run.ran("b", 1, 2)
    run.disturbed(Kind.WORKER, 0.1, worker="prefork-1.1")

    lost = run.verdict().lost
    assert [one.mark for one in lost] == ["a"]
    assert lost[0].what == "never begun; gone from the server"
    assert lost[0].explained_by == ("near #1 worker prefork-1.1 (+0.10 s)",)
    assert run.broken() == ["nothing accepted is lost"]
    held = JudgingTerms(redelivery_seconds=10, margin=5, held={"id-of-a": "unacked"})
    assert run.verdict(held).lost[0].what == "never begun; still in unacked"


def test_a_refused_task_is_not_lost() -> None:
    run = SampleRun()
    run.records.add_offer([OFFERED, "a", 0.0, "id", "short", None, 0, 0.0])

    assert run.verdict().lost == []


@pytest.mark.parametrize(
    ("kind", "at", "until", "explained"),
    [
        (Kind.WORKER, 1.5, 0.0, True),
        (Kind.WORKER, 2.3, 0.0, True),  # ended, but its ack may not have been sent
        (Kind.WORKER, 9.0, 0.0, False),
        (Kind.CHILD, 1.5, 0.0, True),
        (Kind.STOP, 1.5, 13.0, True),
        (Kind.STOP, 0.5, 0.9, False),  # the worker started it after it was continued
        (Kind.SERVER, 0.5, 1.5, True),
        (Kind.SERVER, 0.5, 0.9, False),
        (Kind.FAILOVER, 0.5, 1.5, True),
        (Kind.FULL, 1.5, 1.9, False),
        (Kind.CUT, 1.5, 0.0, False),
        (Kind.RESTART, 1.5, 0.0, False),
        (Kind.PRODUCER, 1.5, 0.0, False),
    ],
)
def test_a_duplicate_is_explained_only_by_a_disturbance_during_its_execution(
    kind: Kind, at: float, until: float, *, explained: bool
) -> None:
    run = SampleRun()
    run.accepted("a")
    run.ran("a", 1, 2)
    run.ran("a", 12, 13, worker="solo-2.1", pid=2)
    run.disturbed(kind, at, until=until)

    verdict = run.verdict()
    assert len(verdict.duplicated) == 1
    assert bool(verdict.duplicated[0].explained_by) is explained
    assert ("nothing runs twice without reason" in run.broken()) is not explained


@pytest.mark.parametrize(("moved", "explained"), [(12.0, True), (-12.0, False)])
def test_only_a_jump_forward_of_the_servers_clock_explains_a_duplicate(moved: float, *, explained: bool) -> None:
    run = SampleRun()
    run.accepted("a")
    run.ran("a", 1, 4)
    run.ran("a", 2, 5, worker="solo-2.1", pid=2)
    run.disturbed(Kind.CLOCK, 1.5, until=5, moved=moved)

    assert bool(run.verdict().duplicated[0].explained_by) is explained


def test_recovery_may_take_longer_when_the_servers_clock_went_back() -> None:
    run = SampleRun()
    run.accepted("a")
    run.ran("a", 1, None)
    run.disturbed(Kind.WORKER, 2)
    run.ran("a", 21, 22, worker="solo-2.1", pid=2)

    assert len(run.verdict().over_limit) == 1
    run.disturbed(Kind.CLOCK, 1.5, moved=-8)
    assert run.verdict().over_limit == []


def test_a_forked_child_that_hung_breaks_a_promise() -> None:
    run = SampleRun()
    run.accepted("a")
    run.ran("a", 1, None)
    run.records.add_run([HUNG, "a", 46, "solo-1.1", 1, "1"])
    run.records.add_run([ENDED, "a", 46, "solo-1.1", 1, "1"])

    assert run.broken() == ["every process that a task forks ends"]


@pytest.mark.parametrize(("kills", "repeated", "held"), [(60, 18, True), (60, 19, False), (40, 19, True)])
def test_the_duplicates_of_enough_kills_have_a_limit(kills: int, repeated: int, *, held: bool) -> None:
    run = SampleRun()
    for number in range(kills):
        mark, worker, at = f"t{number}", f"solo-1.{number}", 100.0 * number
        run.accepted(mark, at=at)
        run.ran(mark, at + 1, at + 2, worker=worker, pid=number)
        if number < repeated:
            run.ran(mark, at + 12, at + 13, worker="solo-2.1", pid=number)
        run.disturbed(Kind.WORKER, at + 2.1, worker=worker, pid=number)

    assert ("a kill repeats at most 0.3 finished tasks" not in run.broken()) is held


@pytest.mark.parametrize("kind", [Kind.CLOCK, Kind.FAILOVER])
def test_an_execution_whose_lease_the_server_lost_blocks_its_key_no_longer(kind: Kind) -> None:
    run = SampleRun()
    run.accepted("a", key="k", place=1)
    run.accepted("b", key="k", place=2)
    run.ran("a", 1, 16)
    run.ran("a", 3, 4, worker="solo-2.1", pid=2)
    run.ran("b", 5, 6, worker="solo-2.1", pid=2)
    run.disturbed(kind, 2, until=2.5, moved=12)

    assert run.verdict().order == []


def test_a_task_whose_ack_was_lost_in_a_failover_may_repeat_after_later_ones_of_its_key() -> None:
    run = SampleRun()
    run.accepted("a", key="k", place=1)
    run.accepted("b", key="k", place=2)
    run.ran("a", 1, 2)
    run.ran("b", 2.1, 2.2)
    run.ran("a", 12, 13)

    assert len(run.verdict().order) == 1
    run.disturbed(Kind.FAILOVER, 2.15, until=4)
    assert run.verdict().order == []


def test_the_kill_of_another_worker_or_child_explains_no_duplicate() -> None:
    run = SampleRun()
    run.accepted("a")
    run.ran("a", 1, 2)
    run.ran("a", 1.2, 2.2, worker="solo-2.1", pid=2)
    run.disturbed(Kind.CHILD, 1.5, pid=3)
    run.disturbed(Kind.WORKER, 1.5, worker="threads-3.1")

    assert len(run.verdict().unexplained) == 1


def test_a_disturbance_after_the_death_of_a_process_explains_no_duplicate() -> None:
    run = SampleRun()
    run.accepted("a")
    run.ran("a", 1, None)
    run.ran("a", 5, 6, worker="solo-2.1", pid=2)
    run.ran("a", 7, 8, worker="solo-3.1", pid=3)
    run.disturbed(Kind.WORKER, 1.5)
    run.disturbed(Kind.SERVER, 3, until=4)

    verdict = run.verdict()
    assert (len(verdict.unexplained), verdict.at_risk) == (1, 1)


def test_a_kill_explains_a_duplicate_whose_ack_waited_for_a_connection_that_had_been_cut() -> None:
    run = SampleRun()
    run.accepted("a")
    run.ran("a", 1, 2)
    run.ran("a", 12, 13, worker="solo-2.1", pid=2)
    run.disturbed(Kind.WORKER, 3.5)

    assert len(run.verdict().unexplained) == 1
    run.disturbed(Kind.CUT, 1.8)
    assert run.verdict().unexplained == []


def test_two_repetitions_need_two_disturbed_executions() -> None:
    run = SampleRun()
    run.accepted("a")
    run.ran("a", 1, None)
    run.ran("a", 3, 4, worker="solo-2.1", pid=2)
    run.ran("a", 5, 6, worker="solo-3.1", pid=3)
    run.disturbed(Kind.WORKER, 1.5)

    assert len(run.verdict().unexplained) == 1
    run.disturbed(Kind.WORKER, 4.1, worker="solo-2.1", pid=2)
    assert run.verdict().unexplained == []


def test_recovery_is_measured_from_the_kill_to_the_next_start_and_has_a_limit() -> None:
    run = SampleRun()
    run.accepted("a")
    run.ran("a", 1, None)
    run.disturbed(Kind.WORKER, 2)
    run.ran("a", 17.5, 18, worker="solo-2.1", pid=2)

    verdict = run.verdict()
    assert (verdict.recovery, len(verdict.over_limit)) == ([15.5], 1)
    run.disturbed(Kind.SERVER, 5, until=6)  # the time without a server does not count
    assert run.verdict().over_limit == []


def test_recovery_includes_held_messages_and_restarts_when_the_next_holder_dies() -> None:
    run = SampleRun()
    run.accepted("a")
    run.disturbed(Kind.WORKER, 2)
    run.disturbances[-1].held = ["a"]
    run.disturbed(Kind.WORKER, 13, worker="solo-2.1", pid=2)
    run.disturbances[-1].held = ["a"]
    run.ran("a", 24, 25, worker="solo-3.1", pid=3)

    assert (run.verdict().recovery, run.verdict().over_limit) == ([11], [])
    run.disturbances[-1].held = []
    assert (run.verdict().recovery, len(run.verdict().over_limit)) == ([22], 1)


@pytest.mark.parametrize(
    ("runs", "violations"),
    [
        ([("a", 1, 2), ("b", 3, 4)], 0),
        ([("b", 1, 2), ("a", 3, 4)], 1),
        ([("a", 1, 3), ("b", 2, 4)], 1),
        ([("a", 1, 2), ("b", 3, 4), ("a", 5, 6)], 1),
    ],
)
def test_tasks_of_one_key_must_start_in_order_and_not_overlap(
    runs: list[tuple[str, float, float]], violations: int
) -> None:
    run = SampleRun()
    run.accepted("a", key="k", place=1)
    run.accepted("b", key="k", place=2)
    for number, (mark, began, ended) in enumerate(runs):
        run.ran(mark, began, ended, worker=f"solo-{number}.1", pid=number)

    assert len(run.verdict().order) == violations


def test_an_execution_in_a_stopped_worker_is_not_an_overlap() -> None:
    run = SampleRun()
    run.accepted("a", key="k", place=1)
    run.accepted("b", key="k", place=2)
    run.ran("a", 1, 16)
    run.ran("a", 12, 13, worker="solo-2.1", pid=2)
    run.ran("b", 14, 15, worker="solo-2.1", pid=2)
    run.disturbed(Kind.STOP, 1.5, until=15.5)

    assert run.verdict().order == []


def test_the_ledger_is_read_while_it_grows_in_records_of_equal_size(tmp_path: Path) -> None:
    plan = Plan(folder=tmp_path)
    reader = LedgerReader(plan)
    producer, worker = Ledger(plan.accepted_log), Ledger(plan.executed_log)
    producer.write(OFFERED, "a", "id", "short", None, 0, 0.0)
    producer.write(ACCEPTED, "a")
    worker.write(BEGAN, "a", "solo-1.1", 7, "0")

    assert (reader.refresh().waiting(), len(reader.records.running)) == (1, 1)
    worker.write(ENDED, "a", "solo-1.1", 7, "0")
    assert (reader.refresh().waiting(), len(reader.records.running)) == (0, 0)
    assert plan.executed_log.stat().st_size == 2 * RECORD


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A short run against the engine with every kind of disturbance at least once."""
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
        "15",
        "--pools",
        "prefork,solo,threads",
        "--rate",
        "16",
        "--max-tasks-per-child",
        "40",
        "--no-failover",
        "--folder",
        str(folder),
    ]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    output = ended.stdout + ended.stderr
    assert ended.returncode in (0, 1), output
    return SmallRun(ended.returncode, output, json.loads((folder / "report.json").read_text())["runs"][0])


def test_the_engine_loses_no_task_in_a_short_run(small_run: SmallRun) -> None:
    kinds = [one["kind"] for one in small_run.report["disturbances"]]
    assert sum(kind in ("child", "worker") for kind in kinds) == KILLS
    assert {"server", "cut", "stop", "producer", "restart", "full"} <= set(kinds)
    assert small_run.report["summary"]["accepted"] > SECONDS
    assert small_run.report["summary"]["lost"] == 0, small_run.output
    assert small_run.report["drained_after"] is not None, small_run.output


def test_the_engine_keeps_every_promise_in_a_short_run(small_run: SmallRun) -> None:
    assert small_run.code == 0, small_run.output
    assert small_run.report["clean"]
