"""The commands about queues and their figures: limits, pauses, statistics, clearing away, a worker for one type."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.core.queues import QUEUES
from laneway.platform import clock
from laneway.platform.schemas.task import TaskState
from tests.fixtures.shell import Shell

QUEUE = "maintenance"


@pytest.fixture(autouse=True)
def no_limits(laneway: Shell) -> None:
    """What an earlier test set is lifted."""
    laneway("queues", "limit", QUEUE)
    laneway("queues", "resume", QUEUE)


def test_queues_are_listed_with_their_limits(laneway: Shell) -> None:
    limited = laneway.process("queues", "limit", QUEUE, "--rate", "10", "--per", "60", "--max-in-flight", "3")
    shown, told = laneway("queues", "list"), laneway("queues", "list", "--json")

    assert (limited.code, shown.code, told.code) == (0, 0, 0)
    (line,) = [line for line in shown.out.splitlines() if line.split()[:1] == [QUEUE]]
    assert line.split() == [QUEUE, "10", "in", "60", "s", "at", "most", "3", "open"]
    assert [one["queue"] for one in told.json()] == list(QUEUES)
    assert all(one["in_force"] for one in told.json())


def test_a_paused_queue_keeps_its_limits_and_a_limited_queue_its_pause(laneway: Shell) -> None:
    laneway("queues", "limit", QUEUE, "--rate", "10")
    paused = laneway("queues", "pause", QUEUE, "--json").json()
    limited = laneway("queues", "limit", QUEUE, "--max-in-flight", "2", "--json").json()
    resumed = laneway("queues", "resume", QUEUE, "--json").json()

    assert (paused["rate"], paused["paused"]) == (10, True)
    assert (limited["rate"], limited["max_in_flight"], limited["paused"]) == (None, 2, True)
    assert (resumed["max_in_flight"], resumed["paused"]) == (2, False)


@pytest.mark.parametrize("words", [("pause", "nonsense"), ("limit", "nonsense", "--rate", "1")])
def test_an_unknown_queue_is_one_sentence(laneway: Shell, words: tuple[str, ...]) -> None:
    ran = laneway.process("queues", *words)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("There is no queue 'nonsense'; there are conversations")


def test_a_limit_that_makes_no_sense_is_refused(laneway: Shell) -> None:
    assert laneway("queues", "limit", QUEUE, "--rate", "0").code == 2
    assert laneway("queues", "limit", QUEUE, "--rate", "10000000").code == 2


def test_the_figures_tell_how_it_went(laneway: Shell) -> None:
    started = clock.now() - timedelta(seconds=90)
    laneway.end(TaskState.COMPLETED, started_at=started, finished_at=started + timedelta(seconds=2), attempts=1)
    shown, told = laneway("stats", "--window", "600"), laneway("stats", "--json")
    elsewhere = laneway("stats", "--queue", "crm", "--json").json()

    assert "last 600 s" in shown.out and "100.0%" in shown.out
    window = told.json()["window"]
    assert (window["total"]["completed"], window["total"]["processing_seconds"]["p95"]) == (1, 2.0)
    assert elsewhere["window"]["total"]["completed"] == 0


def test_old_tasks_are_cleared_away_when_that_is_confirmed(laneway: Shell) -> None:
    old = laneway.end(TaskState.COMPLETED, finished_at=clock.now() - timedelta(seconds=100))
    failed = laneway.end(TaskState.FAILED, finished_at=clock.now() - timedelta(seconds=100))

    assert laneway.process("clear", "--older-than", "50").code == 1, "nobody confirmed it"
    assert laneway("clear", "--older-than", "50", "--yes").out == "1 tasks deleted.\n"
    assert laneway("clear", "--older-than", "0", "--state", "failed", "--yes", "--json").json() == {"deleted": 1}
    assert [laneway("status", id).code for id in (old, failed)] == [1, 1]
    assert laneway("clear", "--older-than", "0", "--state", "dead_letter", "--yes").code == 2


def test_a_worker_may_be_told_its_queues_in_every_way(laneway: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def started_as(_program: str, argv: list[str]) -> None:
        started.append(argv)

    monkeypatch.setattr("laneway.cli.tasks.os.execv", started_as)
    for words in (("--queue", "qa"), ("--queue", "qa", "--queue", "fix"), ("--queues", "qa,fix"), ("-Q", "qa"), ()):
        assert laneway("worker", *words).code == 0

    assert [argv[argv.index("-Q") + 1] for argv in started] == ["qa", "qa,fix", "qa,fix", "qa", ",".join(QUEUES)]
    assert laneway("worker", "--queue", "nonsense").code == 2
