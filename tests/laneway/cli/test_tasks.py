"""Commands of an operator: search, attempts, watch, audit, flush, worker, cleanup; and JSON from every command."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console
from sqlalchemy import delete

from laneway.cli.tasks import watching
from laneway.engine import Kind
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import UpstreamRefused
from laneway.platform.execution.outcomes import Raised
from laneway.platform.schemas.task import TaskState
from laneway.platform.submission.acceptance import SubmitOptions
from tests.fixtures.platform import MovableClock
from tests.fixtures.shell import Shell


def found(laneway: Shell, *words: str) -> list[str]:
    """The ids that a search finds."""
    return [task["task_id"] for task in laneway("search", *words, "--json").json()]


# --- search, attempts, watch --------------------------------------------------------------------------------


def test_tasks_are_searched_by_each_thing(laneway: Shell) -> None:
    assert laneway("search").out == "None.\n"
    first = laneway.site.message("c-1", options=SubmitOptions(tags=("nightly",)))
    failed = laneway.end(TaskState.FAILED, error="No such [/x] model", accepted_at=clock.now() - timedelta(days=2))
    yesterday = f"{clock.now() - timedelta(days=1):%Y-%m-%dT%H:%M:%S}"

    assert found(laneway) == [failed, first]
    assert found(laneway, "--limit", "1") == [failed]
    assert found(laneway, "--state", "pending") == found(laneway, "--tag", "nightly") == [first]
    assert found(laneway, "--state", "pending", "--state", "failed") == [failed, first]
    assert found(laneway, "--key", "conversation_id:c-1") == found(laneway, "--since", yesterday) == [first]
    assert found(laneway, "--error", "[/x]") == found(laneway, "--until", yesterday) == [failed]
    assert found(laneway, "--queue", "conversations", "--name", "process_conversation_message_task") == [failed, first]
    assert found(laneway, "--queue", "webhooks") == found(laneway, "--name", "nothing") == []
    assert failed in laneway("search").out and first in laneway("search").out


def test_the_attempts_of_a_task_are_shown(laneway: Shell) -> None:
    id = laneway.site.message("c-1")
    assert laneway("attempts", id).out == "It has not been started.\n"
    laneway.platform.work(outcome=Raised(OSError("away [/x]")), schedule=(0.0,), worker="w1")
    laneway.platform.work(worker="w2")
    shown, told = laneway("attempts", id), laneway("attempts", id, "--json").json()

    assert (shown.code, len(shown.out.splitlines())) == (0, 3)
    assert "OSError: away [/x]" in shown.out
    assert [(one["number"], one["worker"], one["outcome"]) for one in told] == [
        (1, "w1", "retry"),
        (2, "w2", "completed"),
    ]


@pytest.mark.parametrize(("outcome", "code"), [(None, 0), (Raised(UpstreamRefused("model", "no")), 1)])
def test_watching_ends_with_the_task_and_tells_how_it_went(laneway: Shell, outcome: Raised | None, code: int) -> None:
    id, platform = laneway.site.message("c-1"), laneway.platform
    with ThreadPoolExecutor(2) as pool:
        shown, told = pool.submit(laneway.process, "watch", id), pool.submit(laneway.process, "watch", id, "--json")
        attempt = platform.start()
        platform.attempts.report(attempt, Kind.PROGRESS, {"percent": 40, "message": "thinking"})
        platform.attempts.report(attempt, Kind.LOG, {"level": "info", "text": "found [/x] 3 passages"})
        platform.end(attempt, outcome)

    assert (shown.result().code, told.result().code) == (code, code)
    assert "info: found [/x] 3 passages" in shown.result().out
    assert ("completed" if code == 0 else "failed") in shown.result().out
    events = [json.loads(line) for line in told.result().out.splitlines()]
    assert [event["kind"] for event in events] == ["accepted", "put", "begin", "progress", "log", "end"]


def test_what_a_task_says_is_no_markup() -> None:
    shown = StringIO()
    with watching(Console(file=shown, force_terminal=True)) as bar:
        bar.update(bar.add_task("waiting", total=100), description="linking [/usr/lib]")
        bar.refresh()

    assert "linking [/usr/lib]" in shown.getvalue()


# --- audit --------------------------------------------------------------------------------------------------


def test_the_audit_of_a_healthy_installation_is_balanced(laneway: Shell) -> None:
    laneway.end(TaskState.COMPLETED)
    laneway.site.message("c-1")
    shown, told = laneway("audit"), laneway("audit", "--json")

    assert (shown.code, told.code) == (0, 0)
    assert shown.out.splitlines()[-1] == "unaccounted: 0"
    counts = told.json()
    assert (counts["accepted"], counts["by_state"]["completed"], counts["by_state"]["pending"]) == (2, 1, 1)
    assert (counts["balanced"], counts["unaccounted"], counts["unknown"], counts["unread_events"]) == (True, [], [], 0)


def test_what_the_engine_lost_is_named_and_put_back(laneway: Shell, movable_clock: MovableClock) -> None:
    id = laneway.site.message("c-1")
    laneway.platform.lose("conversations")
    movable_clock.forward(10)
    named = laneway("audit", "--json")
    mended, after = laneway("audit", "--repair"), laneway("audit")

    assert (named.code, mended.code, after.code) == (1, 0, 0)
    assert [(one["task_id"], one["why"]) for one in named.json()["unaccounted"]] == [
        (id, "the engine does not have it")
    ]
    assert mended.out.splitlines()[-1] == "unaccounted: 0 (1 repaired)"
    assert laneway.platform.sent() == [id]


def test_what_the_history_does_not_know_is_named(laneway: Shell) -> None:
    id = laneway.site.message("c-1")
    laneway.site.services.recorder.catch_up()
    with laneway.site.services.database.transaction() as session:
        session.execute(delete(TaskRun))
    told, shown = laneway("audit", "--json"), laneway("audit", "--repair")

    assert (told.code, told.json()["unknown"]) == (1, [id])
    assert (shown.code, shown.out.splitlines()[-1]) == (1, "unaccounted: 1")
    assert f"unknown to the history  {id}" in shown.out


def test_a_result_that_is_gone_is_told_and_put_back_and_alarms_nobody(
    laneway: Shell, movable_clock: MovableClock
) -> None:
    id = laneway.site.message("c-1")
    laneway.platform.work()
    movable_clock.forward(10)
    told, shown = laneway("audit", "--json"), laneway("audit")
    mended, after = laneway("audit", "--repair"), laneway("audit")

    assert (told.code, shown.code, mended.code, after.code) == (0, 0, 0, 0)
    results = told.json()["results"]
    assert results["found"] == {"missing": 1, "contradicting": 0, "unknown": 0}
    assert results["named"] == [{"task_id": id, "kind": "missing", "state": "completed", "stored": None}]
    assert f"{id} (completed): the store has none" in shown.out
    assert "1 missing, 0 contradicting, 0 unknown (1 put back)" in mended.out
    assert "0 missing, 0 contradicting, 0 unknown" in after.out
    assert laneway.site.app.AsyncResult(id).get(timeout=5) == laneway.site.row(id).result


# --- flush, worker, cleanup ---------------------------------------------------------------------------------


def test_a_flush_cancels_what_waits_and_nothing_else(laneway: Shell) -> None:
    running, waiting, later = (
        laneway.site.message("c-1"),
        laneway.site.message("c-1"),
        laneway.site.message("c-2", delay=9),
    )
    laneway.platform.start()
    first, again = laneway("flush", "conversations", "--yes"), laneway("flush", "conversations", "--yes", "--json")

    assert (first.code, first.out) == (0, "2 tasks cancelled.\n")
    assert (again.code, again.json()) == (0, {"queue": "conversations", "cancelled": 0})
    assert [laneway.state(id) for id in (running, waiting, later)] == ["processing", "cancelled", "cancelled"]


def test_a_flush_is_asked_about_first(laneway: Shell) -> None:
    id = laneway.site.message("c-1")
    ran = laneway.process("flush", "conversations")

    assert ran.code == 1
    assert "Cancel everything that waits in 'conversations'?" in ran.out
    assert laneway.state(id) == "pending"


@pytest.mark.parametrize(
    "words",
    [
        ("flush", "nowhere"),
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
def test_what_makes_no_sense_is_explained_with_exit_code_2(laneway: Shell, words: tuple[str, ...]) -> None:
    ran = laneway(*words)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: ")


def test_the_worker_command_says_what_it_can(laneway: Shell) -> None:
    ran = laneway.process("worker", "--help")

    assert ran.code == 0
    for option in ("--queue", "--queues", "--name", "--pool", "--concurrency", "--json"):
        assert option in ran.out


def test_a_cleanup_deletes_what_ended_longer_ago_than_was_said(laneway: Shell) -> None:
    old, young = (laneway.end(TaskState.FAILED, finished_at=clock.now() - timedelta(hours=hours)) for hours in (7, 5))
    waiting = laneway.site.message("c-1")
    shown, told = laneway("cleanup"), laneway("cleanup", "--hours", "6", "--json")

    assert (shown.code, shown.out.splitlines()[0]) == (0, "tasks: 0")
    assert (told.code, told.json()["tasks"]) == (0, 1)
    assert sorted(found(laneway)) == sorted([young, waiting])
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
def test_every_command_that_tells_something_tells_it_in_json(laneway: Shell, command: str) -> None:
    id, dead = laneway.site.message("c-1"), laneway.end(TaskState.DEAD_LETTER)
    words = [{"ID": id, "DEAD": dead}.get(word, word) for word in command.split()]
    ran = laneway(*words, "--json")

    assert ran.code == 0
    assert isinstance(ran.json(), dict | list)
