"""`laneway tasks cancel|retry|replay|reprioritise` by a filter, their undo, and the preview of a clean-up."""

from __future__ import annotations

from datetime import timedelta

import pytest

from laneway.cli import bulk
from laneway.cli.local_maintenance import LocalMaintenance
from laneway.platform import clock
from laneway.platform.errors import DatabaseUnavailable
from laneway.schemas.bulk import TasksActionResponse, TaskSelection
from laneway.schemas.task import TaskState
from tests.fixtures.shell import Shell


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PART", 2)


def waiting(laneway: Shell, number: int) -> list[str]:
    return [laneway.site.message(f"c-{each}") for each in range(number)]


def test_a_dry_run_counts_and_changes_nothing(laneway: Shell) -> None:
    ids = waiting(laneway, 3)
    ran = laneway("tasks", "cancel", "--queue", "conversations", "--dry-run")

    assert (ran.code, ran.out) == (0, f"3 tasks would be cancelled.\n{ids[2]}\n{ids[1]}\n")
    assert {laneway.state(id) for id in ids} == {"pending"}


def test_tasks_are_cancelled_in_parts_and_the_undo_takes_all_of_them_back(laneway: Shell) -> None:
    ids = waiting(laneway, 5)
    asked = laneway("tasks", "cancel", "--queue", "conversations")
    assert asked.code == 1 and {laneway.state(id) for id in ids} == {"pending"}, "nobody has said yes"
    ran = laneway("tasks", "cancel", "--queue", "conversations", "--yes")
    assert (ran.code, ran.out.splitlines()[0]) == (0, "5 of 5 tasks cancelled.")
    assert {laneway.state(id) for id in ids} == {"cancelled"}
    action = ran.out.split()[-1]
    assert action in laneway("tasks", "actions").out
    undone = laneway("tasks", "undo", action)

    assert (undone.code, undone.out) == (0, "Undone for 5 tasks.\n")
    assert {laneway.state(id) for id in ids} == {"pending"}


def test_a_limit_bounds_it(laneway: Shell) -> None:
    ids = waiting(laneway, 5)
    ran = laneway("tasks", "reprioritise", "--all", "--priority", "low", "--limit", "3", "--yes")

    assert ran.code == 0
    assert ran.out.startswith("3 of 3 tasks given the priority low.\nMore tasks match")
    assert [laneway.site.row(id).priority for id in ids] == [1, 1, 0, 0, 0]


def test_tasks_are_replayed_and_retried_by_when_they_ended(laneway: Shell) -> None:
    old = laneway.end(TaskState.FAILED, finished_at=clock.now() - timedelta(hours=5))
    new = laneway.end(TaskState.FAILED)
    broken = laneway.end(TaskState.FAILED, payload={"message": 1})
    replayed = laneway("tasks", "replay", "--state", "failed", "--ended-since", "1h", "--yes", "--json")
    found = replayed.json()
    assert (replayed.code, list(found["copies"]), list(found["refused"])) == (1, [new], [broken])
    assert laneway.state(found["copies"][new]) == "pending"
    retried = laneway("tasks", "retry", "--ended-until", "1h", "--yes")

    assert (retried.code, retried.out) == (0, "1 of 1 task queued again.\n")
    assert [laneway.state(id) for id in (old, new, broken)] == ["pending", "failed", "failed"]


def test_one_task_is_cancelled_as_by_the_short_command(laneway: Shell) -> None:
    (id,) = waiting(laneway, 1)
    assert laneway("tasks", "cancel", id).out == "Cancelled: the task will not run.\n"
    assert laneway("tasks", "retry", id).out == f"Queued again: {id}\n"


@pytest.mark.parametrize("words", [(), ("--all", "--queue", "conversations")])
def test_nothing_and_everything_with_a_filter_are_refused(laneway: Shell, words: tuple[str, ...]) -> None:
    ran = laneway("tasks", "cancel", *words, "--yes")
    assert (ran.code, ran.out) == (2, "")
    assert "--all" in ran.err


def test_nothing_that_matches_has_exit_code_1(laneway: Shell) -> None:
    ran = laneway("tasks", "cancel", "--queue", "webhooks", "--yes")
    assert (ran.code, ran.out) == (1, "0 of 0 tasks cancelled.\n")


def test_an_action_that_fails_on_its_way_says_how_far_it_came_and_how_to_undo_it(
    laneway: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = waiting(laneway, 3)
    change = LocalMaintenance.change_tasks

    def fail_at_the_second(self: LocalMaintenance, action: str, selected: TaskSelection) -> TasksActionResponse:
        if selected.before is not None:
            raise DatabaseUnavailable("it is away")
        return change(self, action, selected)

    monkeypatch.setattr(LocalMaintenance, "change_tasks", fail_at_the_second)
    ran = laneway("--direct", "tasks", "cancel", "--all", "--yes")

    line = ran.err.splitlines()[0]
    assert (ran.code, line.rpartition(" ")[0]) == (
        1,
        "2 tasks cancelled. Repeat the command for the rest. Undo: laneway tasks undo",
    )
    assert laneway("--direct", "tasks", "undo", line.rpartition(" ")[2]).code == 0
    assert {laneway.state(id) for id in ids} == {"pending"}


def test_a_clean_up_shows_its_rules_first(laneway: Shell) -> None:
    id = laneway.end(TaskState.FAILED, finished_at=clock.now() - timedelta(days=40))
    ran = laneway("cleanup", "--dry-run")

    assert ran.code == 0
    assert "RETENTION_DAYS_TASKS=30" in ran.out and "1 finished task would be deleted." in ran.out
    assert laneway.state(id) == "failed"
    assert laneway("cleanup", "--dry-run", "--older-than", "60d", "--json").json()["tasks"][0]["expired"] == 0
