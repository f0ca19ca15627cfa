"""The commands about queues: limits, pauses, stats, clear, and workers for chosen queues."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import Celery

from app.core.queues import QUEUES, WORKERS
from laneway.platform import clock
from laneway.platform.registry import registry
from laneway.schemas.task import TaskState
from laneway.server.processes import worker_command
from tests.fixtures.shell import Shell

QUEUE = "maintenance"


@pytest.fixture(autouse=True)
def no_limits(laneway: Shell) -> None:
    """Remove the limits that an earlier test set."""
    laneway("queues", "limit", QUEUE)
    laneway("queues", "resume", QUEUE)


def test_queues_are_listed_with_their_limits(laneway: Shell) -> None:
    limited = laneway.process("queues", "limit", QUEUE, "--rate", "10", "--per", "1m", "--max-in-flight", "3")
    shown, data = laneway("queues", "list"), laneway("queues", "list", "--json")

    assert (limited.code, shown.code, data.code) == (0, 0, 0)
    (line,) = [line for line in shown.out.splitlines() if line.split()[:1] == [QUEUE]]
    assert line.split() == [QUEUE, "10", "in", "1m", "at", "most", "3", "open"]
    assert [queue["queue"] for queue in data.json()] == list(QUEUES)
    assert all(queue["in_force"] for queue in data.json())


def test_pausing_keeps_the_limits_and_limiting_keeps_the_pause(laneway: Shell) -> None:
    laneway("queues", "limit", QUEUE, "--rate", "10")
    paused = laneway("queues", "pause", QUEUE, "--json").json()
    limited = laneway("queues", "limit", QUEUE, "--max-in-flight", "2", "--json").json()
    resumed = laneway("queues", "resume", QUEUE, "--json").json()

    assert (paused["rate"], paused["paused"]) == (10, True)
    assert (limited["rate"], limited["max_in_flight"], limited["paused"]) == (None, 2, True)
    assert (resumed["max_in_flight"], resumed["paused"]) == (2, False)


def test_the_routes_of_all_tasks_are_printed_for_other_programs(laneway: Shell) -> None:
    shown, data = laneway("queues", "routes"), laneway.process("queues", "routes", "--json")

    assert (shown.code, data.code) == (0, 0)
    routes = data.json()
    assert routes == {name: {"queue": registry[name].queue} for name in sorted(routes)}
    assert set(routes) >= {"process_conversation_message_task", "cleanup_old_data_task"}
    assert ["process_conversation_message_task", "conversations"] in [line.split() for line in shown.out.splitlines()]


def test_tasks_under_a_mistyped_name_are_taken_in(laneway: Shell) -> None:
    with (
        Celery("shop", broker=laneway.site.settings.redis.broker_url, set_as_current=False) as stranger,
        stranger.connection_for_write() as connection,
    ):
        stranger.send_task("cleanup_old_data_task", queue="maintenence", connection=connection)

    assert laneway("queues", "take-in", "maintenence").out.strip() == "1 task taken in."
    assert laneway("queues", "take-in", "maintenence", "--json").json() == {"taken": 0}


@pytest.mark.parametrize("words", [("pause", "nonsense"), ("limit", "nonsense", "--rate", "1")])
def test_an_unknown_queue_is_reported_in_one_sentence(laneway: Shell, words: tuple[str, ...]) -> None:
    ran = laneway.process("queues", *words)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("There is no queue 'nonsense'; there are conversations")


def test_an_invalid_limit_is_refused(laneway: Shell) -> None:
    assert laneway("queues", "limit", QUEUE, "--rate", "0").code == 2
    assert laneway("queues", "limit", QUEUE, "--rate", "10000000").code == 2


def test_stats_show_success_and_times_of_the_window(laneway: Shell) -> None:
    started = clock.now() - timedelta(seconds=90)
    laneway.end(TaskState.COMPLETED, started_at=started, finished_at=started + timedelta(seconds=2), attempts=1)
    shown, data = laneway("stats", "--window", "10m"), laneway("stats", "--json")
    elsewhere = laneway("stats", "--queue", "crm", "--json").json()

    assert "last 10m" in shown.out and "100.0%" in shown.out
    window = data.json()["window"]
    assert (window["total"]["completed"], window["total"]["processing_seconds"]["p95"]) == (1, 2.0)
    assert elsewhere["window"]["total"]["completed"] == 0


def test_old_tasks_are_deleted_after_confirmation(laneway: Shell) -> None:
    old = laneway.end(TaskState.COMPLETED, finished_at=clock.now() - timedelta(seconds=100))
    failed = laneway.end(TaskState.FAILED, finished_at=clock.now() - timedelta(seconds=100))

    assert laneway.process("clear", "--older-than", "50").code == 1, "nobody confirmed it"
    assert laneway("clear", "--older-than", "50s", "--yes").out == "Deleted 1 task.\n"
    assert laneway("clear", "--older-than", "0", "--state", "failed", "--yes", "--json").json() == {"deleted": 1}
    assert [laneway("status", id).code for id in (old, failed)] == [1, 1]
    assert laneway("clear", "--older-than", "0", "--state", "dead_letter", "--yes").code == 2


def test_a_worker_serves_the_queues_that_its_options_name(laneway: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def exec_worker(_program: str, argv: list[str]) -> None:
        started.append(argv)

    monkeypatch.setattr("laneway.cli.processes.os.execv", exec_worker)
    for words in (("--queue", "qa"), ("--queue", "qa", "--queue", "fix"), ("--queues", "qa,fix"), ("-Q", "qa"), ()):
        assert laneway("worker", *words).code == 0

    assert [argv[argv.index("-Q") + 1] for argv in started] == ["qa", "qa,fix", "qa,fix", "qa", ",".join(QUEUES)]
    assert laneway("worker", "--queue", "nonsense").code == 2


def test_a_worker_of_a_group_is_the_celery_worker_that_the_application_declares(
    laneway: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def exec_worker(_program: str, argv: list[str]) -> None:
        started.append(argv)

    monkeypatch.setattr("laneway.cli.processes.os.execvp", exec_worker)

    assert [laneway("worker", "--group", group.name).code for group in WORKERS] == [0] * len(WORKERS)
    assert started == [list(worker_command(laneway.site.settings, group)) for group in WORKERS]
    unknown = laneway("worker", "--group", "nobody")
    assert (unknown.code, unknown.err) == (2, "There is no worker 'nobody'; there are worker, bulk.\n")


@pytest.mark.parametrize("words", [("-Q", "qa"), ("-n", "mine"), ("-P", "solo"), ("-c", "2"), ("--json",)])
def test_a_group_excludes_the_options_that_describe_a_worker(laneway: Shell, words: tuple[str, ...]) -> None:
    ran = laneway("worker", "--group", "worker", *words)

    assert ran.code == 2
    assert "--group cannot be combined with" in ran.err
