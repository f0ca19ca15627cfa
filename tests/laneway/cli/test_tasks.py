"""The commands search, attempts, watch, audit, flush, worker and cleanup; and the JSON output of every command."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console
from sqlalchemy import delete

from laneway.cli.tasks import progress_bar
from laneway.engine import EventKind
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import UpstreamRefused
from laneway.platform.execution.outcomes import Raised
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.task import TaskState
from tests.fixtures.platform import MovableClock
from tests.fixtures.shell import Shell


def find(laneway: Shell, *words: str) -> list[str]:
    """The ids of the tasks that a search finds."""
    return [task["task_id"] for task in laneway("search", *words, "--json").json()]


# --- search, attempts, watch --------------------------------------------------------------------------------


def test_tasks_are_found_by_each_option(laneway: Shell) -> None:
    assert laneway("search").out == "None.\n"
    first = laneway.site.message("c-1", options=SubmitOptions(tags=("nightly",)))
    failed = laneway.end(TaskState.FAILED, error="No such [/x] model", accepted_at=clock.now() - timedelta(days=2))
    yesterday = f"{clock.now() - timedelta(days=1):%Y-%m-%dT%H:%M:%S}"

    assert find(laneway) == [failed, first]
    assert find(laneway, "--limit", "1") == [failed]
    assert find(laneway, "--state", "pending") == find(laneway, "--tag", "nightly") == [first]
    assert find(laneway, "--state", "pending", "--state", "failed") == [failed, first]
    assert find(laneway, "--key", "conversation_id:c-1") == find(laneway, "--since", yesterday) == [first]
    assert find(laneway, "--error", "[/x]") == find(laneway, "--until", yesterday) == [failed]
    assert find(laneway, "--queue", "conversations", "--name", "process_conversation_message_task") == [failed, first]
    assert find(laneway, "--queue", "webhooks") == find(laneway, "--name", "nothing") == []
    assert failed in laneway("search").out and first in laneway("search").out


def raised(error: Exception) -> Exception:
    """The error with a traceback."""
    try:
        raise error
    except Exception as caught:  # noqa: BLE001
        return caught


def test_the_attempts_of_a_task_are_shown(laneway: Shell) -> None:
    id = laneway.site.message("c-1")
    assert laneway("attempts", id).out == "The task has not started yet.\n"
    laneway.platform.work(outcome=Raised(raised(OSError("away [/x]\x1b[2J"))), schedule=(0.0,), worker="w1")
    laneway.platform.work(worker="w2")
    shown, data = laneway("attempts", id), laneway("attempts", id, "--json").json()

    assert shown.code == 0
    assert "OSError: away [/x]" in shown.out and "\x1b" not in shown.out
    assert "Attempt 1: OSError\nTraceback (most recent call last):" in shown.out, "a retried attempt has its traceback"
    assert "Attempt 2" not in shown.out
    assert [(attempt["number"], attempt["worker"], attempt["outcome"]) for attempt in data] == [
        (1, "w1", "retry"),
        (2, "w2", "completed"),
    ]


@pytest.mark.parametrize(("outcome", "code"), [(None, 0), (Raised(UpstreamRefused("model", "no")), 1)])
def test_watch_ends_with_the_task_and_shows_its_outcome(laneway: Shell, outcome: Raised | None, code: int) -> None:
    id, platform = laneway.site.message("c-1"), laneway.platform
    with ThreadPoolExecutor(2) as pool:
        shown, data = pool.submit(laneway.process, "watch", id), pool.submit(laneway.process, "watch", id, "--json")
        attempt = platform.start()
        platform.attempts.report(attempt, EventKind.PROGRESS, {"percent": 40, "message": "thinking"})
        platform.attempts.report(attempt, EventKind.LOG, {"level": "info", "text": "found [/x] 3 passages"})
        platform.end(attempt, outcome)

    assert (shown.result().code, data.result().code) == (code, code)
    assert "info: found [/x] 3 passages" in shown.result().out
    assert ("completed" if code == 0 else "failed") in shown.result().out
    events = [json.loads(line) for line in data.result().out.splitlines()]
    assert [event["kind"] for event in events] == ["accepted", "put", "begin", "progress", "log", "end"]


def test_a_message_of_a_task_is_not_read_as_markup() -> None:
    shown = StringIO()
    with progress_bar(Console(file=shown, force_terminal=True)) as bar:
        bar.update(bar.add_task("waiting", total=100), description="linking [/usr/lib]")
        bar.refresh()

    assert "linking [/usr/lib]" in shown.getvalue()


# --- audit --------------------------------------------------------------------------------------------------


def test_the_audit_of_a_healthy_installation_is_balanced(laneway: Shell) -> None:
    laneway.end(TaskState.COMPLETED)
    laneway.site.message("c-1")
    shown, data = laneway("audit"), laneway("audit", "--json")

    assert (shown.code, data.code) == (0, 0)
    assert shown.out.splitlines()[-1] == "unaccounted: 0"
    counts = data.json()
    assert (counts["accepted"], counts["by_state"]["completed"], counts["by_state"]["pending"]) == (2, 1, 1)
    assert (counts["balanced"], counts["unaccounted"], counts["unknown"], counts["unread_events"]) == (True, [], [], 0)


def test_a_message_that_the_engine_lost_is_named_and_restored(laneway: Shell, movable_clock: MovableClock) -> None:
    id = laneway.site.message("c-1")
    laneway.platform.lose("conversations")
    movable_clock.forward(10)
    named = laneway("audit", "--json")
    repaired, after = laneway("audit", "--repair"), laneway("audit")

    assert (named.code, repaired.code, after.code) == (1, 0, 0)
    assert [(missing["task_id"], missing["why"]) for missing in named.json()["unaccounted"]] == [
        (id, "the engine does not have it")
    ]
    assert repaired.out.splitlines()[-1] == "unaccounted: 0 (1 repaired)"
    assert laneway.platform.sent() == [id]


def test_a_task_that_the_history_does_not_know_is_named_and_gets_a_row(laneway: Shell) -> None:
    id = laneway.site.message("c-1")
    laneway.site.services.recorder.catch_up()
    with laneway.site.services.database.transaction() as session:
        session.execute(delete(TaskRun))
    data, shown = laneway("audit", "--json"), laneway("audit", "--repair")

    assert (data.code, data.json()["unknown"]) == (1, [id])
    assert (shown.code, shown.out.splitlines()[-1]) == (0, "unaccounted: 0 (1 repaired)")
    assert f"unknown to the history  {id}" in shown.out
    assert laneway.state(id) == TaskState.PENDING


def test_a_missing_result_is_reported_and_restored_without_an_alert(
    laneway: Shell, movable_clock: MovableClock
) -> None:
    id = laneway.site.message("c-1")
    laneway.platform.work()
    movable_clock.forward(10)
    data, shown = laneway("audit", "--json"), laneway("audit")
    repaired, after = laneway("audit", "--repair"), laneway("audit")

    assert (data.code, shown.code, repaired.code, after.code) == (0, 0, 0, 0)
    results = data.json()["results"]
    assert results["found"] == {"missing": 1, "contradicting": 0, "unknown": 0}
    assert results["named"] == [{"task_id": id, "kind": "missing", "state": "completed", "stored": None}]
    assert f"{id} (completed): the store has none" in shown.out
    assert "1 missing, 0 contradicting, 0 unknown (1 restored)" in repaired.out
    assert "0 missing, 0 contradicting, 0 unknown" in after.out
    assert laneway.site.app.AsyncResult(id).get(timeout=5) == laneway.site.row(id).result


# --- flush, worker, cleanup ---------------------------------------------------------------------------------


def test_flush_cancels_waiting_tasks_and_no_others(laneway: Shell) -> None:
    running, waiting, later = (
        laneway.site.message("c-1"),
        laneway.site.message("c-1"),
        laneway.site.message("c-2", delay=9),
    )
    laneway.platform.start()
    first, again = laneway("flush", "conversations", "--yes"), laneway("flush", "conversations", "--yes", "--json")

    assert (first.code, first.out) == (0, "Cancelled 2 tasks.\n")
    assert (again.code, again.json()) == (0, {"queue": "conversations", "cancelled": 0})
    assert [laneway.state(id) for id in (running, waiting, later)] == ["processing", "cancelled", "cancelled"]


def test_a_queue_that_is_not_there_is_not_flushed(laneway: Shell) -> None:
    for words in (("flush", "nowhere"), ("flush", "nowhere", "--yes")):
        ran = laneway(*words)
        assert (ran.code, ran.out) == (1, "") and ran.err.startswith("There is no queue 'nowhere'; there are ")


def test_flush_asks_for_confirmation(laneway: Shell) -> None:
    id = laneway.site.message("c-1")
    ran = laneway.process("flush", "conversations")

    assert ran.code == 1
    assert "Cancel all waiting tasks of the queue 'conversations' (1 now)?" in ran.out
    assert laneway.state(id) == "pending"


@pytest.mark.parametrize(
    "words",
    [
        ("flush",),
        ("worker", "-Q", "conversations,nowhere"),
        ("worker", "-c", "0"),
        ("search", "--state", "odd"),
        ("search", "--since", "soon"),
        ("search", "--limit", "0"),
        ("cleanup", "--hours", "-1"),
        ("watch",),
        ("dead", "discard"),
        ("dead", "restore", "--all", "x"),
    ],
)
def test_a_command_line_with_errors_is_explained_with_exit_code_2(laneway: Shell, words: tuple[str, ...]) -> None:
    ran = laneway(*words)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: ")


def test_the_help_of_the_worker_command_lists_its_options(laneway: Shell) -> None:
    ran = laneway.process("worker", "--help")

    assert ran.code == 0
    for option in ("--group", "--queue", "--queues", "--name", "--pool", "--concurrency", "--json"):
        assert option in ran.out


def test_cleanup_deletes_tasks_that_ended_longer_ago(laneway: Shell) -> None:
    old, young = (laneway.end(TaskState.FAILED, finished_at=clock.now() - timedelta(hours=hours)) for hours in (7, 5))
    waiting = laneway.site.message("c-1")
    shown, data = laneway("cleanup"), laneway("cleanup", "--hours", "6", "--json")

    assert (shown.code, shown.out.splitlines()[0]) == (0, "tasks: 0")
    assert (data.code, data.json()["tasks"]) == (0, 1)
    assert sorted(find(laneway)) == sorted([young, waiting])
    assert laneway("status", old).code == 1


# --- JSON ---------------------------------------------------------------------------------------------------

JSON_COMMANDS = (
    "stats",
    "active",
    "search",
    "audit",
    "cleanup",
    "dead list",
    "dead groups",
    "status ID",
    "attempts ID",
    "why ID",
    "retry DEAD",
    "cancel ID",
    "dead show DEAD",
    "flush conversations --yes",
    "dead requeue DEAD",
    "dead requeue --all --dry-run",
    "dead discard DEAD",
    "dead restore --all --dry-run",
)


@pytest.mark.parametrize("command", JSON_COMMANDS)
def test_every_command_that_shows_something_prints_json(laneway: Shell, command: str) -> None:
    id, dead = laneway.site.message("c-1"), laneway.end(TaskState.DEAD_LETTER)
    words = [{"ID": id, "DEAD": dead}.get(word, word) for word in command.split()]
    ran = laneway(*words, "--json")

    assert ran.code == 0
    assert isinstance(ran.json(), dict | list)
