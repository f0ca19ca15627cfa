"""`laneway dead`: groups, dry runs, requeueing, the trash."""

from __future__ import annotations

import base64

import pytest

from laneway.cli import dead_letters
from laneway.cli.local_source import LocalSource
from laneway.platform.errors import DatabaseUnavailable
from laneway.schemas.history import BulkActionResponse, DeadLetterSelection
from laneway.schemas.task import TaskState
from tests.fixtures.shell import Shell


def dead(laneway: Shell, group: str = "g1", *, error: str = "away", state: TaskState = TaskState.DEAD_LETTER) -> str:
    """Create a dead letter of a group; returns its id."""
    return laneway.end(state, error_group=group, error=error, error_type="UpstreamError")


def listed(laneway: Shell, *words: str) -> list[str]:
    """The ids of the listed dead letters."""
    return [task["task_id"] for task in laneway("dead", "list", *words, "--json").json()]


def test_tasks_that_failed_the_same_way_are_one_group_and_the_largest_is_first(laneway: Shell) -> None:
    assert laneway("dead", "groups").out == "None.\n"
    for group in ("g1", "g2", "g2"):
        dead(laneway, group, error=f"[/x] {group}")
    dead(laneway, "g3", state=TaskState.FAILED)
    shown, data = laneway("dead", "groups"), laneway("dead", "groups", "--json").json()

    assert (shown.code, len(shown.out.splitlines())) == (0, 3)
    assert [(group["group"], group["count"], group["error"]) for group in data] == [
        ("g2", 2, "[/x] g2"),
        ("g1", 1, "[/x] g1"),
    ]
    assert "UpstreamError: [/x] g2" in shown.out
    assert len(laneway("dead", "groups", "--failed", "--json").json()) == 3


def test_a_dry_run_shows_the_dead_letters_and_changes_nothing(laneway: Shell) -> None:
    first, second, other = dead(laneway), dead(laneway), dead(laneway, "g2")
    for command, action in (("requeue", "queued again"), ("discard", "discarded")):
        shown = laneway("dead", command, "--group", "g1", "--dry-run")
        data = laneway("dead", command, "--group", "g1", "--dry-run", "--json")

        assert (shown.code, shown.out.splitlines()[0]) == (0, f"2 dead letters would be {action}.")
        assert first in shown.out and second in shown.out and other not in shown.out
        plan = {"matched": 2, "done": 0, "dry_run": True, "refused": {}, "next": None, "samples": [second, first]}
        assert data.json() == plan
    assert listed(laneway) == [other, second, first]


def test_one_group_is_requeued_and_the_others_stay(laneway: Shell) -> None:
    first, second, other = dead(laneway), dead(laneway), dead(laneway, "g2")
    ran = laneway("dead", "requeue", "--group", "g1")

    assert (ran.code, ran.out) == (0, "2 of 2 dead letters queued again.\n")
    assert [laneway.state(id) for id in (first, second, other)] == ["pending", "pending", "dead_letter"]
    again = laneway("dead", "requeue", "--group", "g1")
    assert (again.code, again.out) == (1, "0 of 0 dead letters queued again.\n")


def test_options_select_dead_letters(laneway: Shell) -> None:
    one, other = dead(laneway, error="timeout of [/x]"), dead(laneway, error="refused")

    assert listed(laneway, "--error", "[/X]") == [one]
    assert (
        listed(laneway, "--queue", "webhooks") == listed(laneway, "--name", "x") == listed(laneway, "--tag", "x") == []
    )
    assert laneway("dead", "requeue", "--error", "[/x]").code == 0
    assert listed(laneway) == [other]


def test_discarded_dead_letters_are_in_the_trash_and_can_be_restored(laneway: Shell) -> None:
    one, other = dead(laneway), dead(laneway)
    discarded = laneway("dead", "discard", one)

    assert (discarded.code, discarded.out) == (0, "1 of 1 dead letter discarded.\n")
    assert (listed(laneway), listed(laneway, "--trash")) == ([other], [one])
    refused = laneway("dead", "requeue", one)
    assert (refused.code, refused.out.splitlines()[1]) == (1, f"{one}: Dead letter '{one}' is in the trash.")
    assert laneway.state(one) == "dead_letter"
    restored = laneway("dead", "restore", one)
    assert (restored.code, restored.out) == (0, "1 of 1 dead letter restored.\n")
    assert (listed(laneway), listed(laneway, "--trash")) == ([other, one], [])
    assert laneway("dead", "restore", one).code == 1


def test_a_dead_letter_that_cannot_be_requeued_is_named_and_stays(laneway: Shell) -> None:
    good, blank = dead(laneway), laneway.end(TaskState.DEAD_LETTER, payload={})
    ran = laneway("dead", "requeue", "--all")

    assert ran.code == 1
    assert ran.out.splitlines()[0] == "1 of 2 dead letters queued again."
    assert ran.out.splitlines()[1].startswith(f"{blank}: ")
    assert [laneway.state(good), laneway.state(blank)] == ["pending", "dead_letter"]


def test_an_unreadable_message_is_shown_in_base64(laneway: Shell) -> None:
    id = laneway.end(TaskState.DEAD_LETTER, raw=b"\xff\x00 broken")
    shown, data = laneway("dead", "show", id), laneway("dead", "show", id, "--json")

    assert (shown.code, data.code) == (0, 0)
    assert base64.b64decode(data.json()["raw"]) == b"\xff\x00 broken"


def test_many_dead_letters_are_requeued_in_parts(laneway: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "PART", 2)
    for _ in range(5):
        dead(laneway)
    ran, again = laneway("dead", "requeue", "--all"), laneway("dead", "requeue", "--all", "--json")

    assert (ran.code, ran.out) == (0, "5 of 5 dead letters queued again.\n")
    assert (again.code, again.json()["matched"], again.json()["next"]) == (1, 0, None)


def test_an_action_that_fails_on_its_way_says_how_far_it_came(laneway: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "PART", 2)
    for _ in range(3):
        dead(laneway)
    change = LocalSource.change_dead_letters

    def fail_at_the_second(self: LocalSource, action: str, selected: DeadLetterSelection) -> BulkActionResponse:
        if selected.before is not None:
            raise DatabaseUnavailable("it is away")
        return change(self, action, selected)

    monkeypatch.setattr(LocalSource, "change_dead_letters", fail_at_the_second)
    ran = laneway("--direct", "dead", "discard", "--all")

    assert (ran.code, ran.err.splitlines()[0]) == (1, "2 of 3 dead letters discarded. Repeat the command for the rest.")
    assert len(listed(laneway)) == 1
