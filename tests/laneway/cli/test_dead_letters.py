"""`laneway dead`: groups, dry runs, sending again, the trash."""

from __future__ import annotations

import base64

from laneway.platform.schemas.task import TaskState
from tests.fixtures.shell import Shell


def dead(laneway: Shell, group: str = "g1", *, error: str = "away", state: TaskState = TaskState.DEAD_LETTER) -> str:
    """A dead letter of a group."""
    return laneway.end(state, error_group=group, error=error, error_type="UpstreamError")


def listed(laneway: Shell, *words: str) -> list[str]:
    """Which dead letters are listed."""
    return [task["task_id"] for task in laneway("dead", "list", *words, "--json").json()]


def test_what_failed_the_same_way_is_one_group_the_largest_first(laneway: Shell) -> None:
    assert laneway("dead", "groups").out == "None.\n"
    for group in ("g1", "g2", "g2"):
        dead(laneway, group, error=f"[/x] {group}")
    dead(laneway, "g3", state=TaskState.FAILED)
    shown, told = laneway("dead", "groups"), laneway("dead", "groups", "--json").json()

    assert (shown.code, len(shown.out.splitlines())) == (0, 3)
    assert [(group["group"], group["count"], group["error"]) for group in told] == [
        ("g2", 2, "[/x] g2"),
        ("g1", 1, "[/x] g1"),
    ]
    assert "UpstreamError: [/x] g2" in shown.out
    assert len(laneway("dead", "groups", "--failed", "--json").json()) == 3


def test_a_dry_run_says_how_many_and_which_and_does_nothing(laneway: Shell) -> None:
    first, second, other = dead(laneway), dead(laneway), dead(laneway, "g2")
    for what, done in (("requeue", "queued again"), ("discard", "discarded")):
        shown = laneway("dead", what, "--group", "g1", "--dry-run")
        told = laneway("dead", what, "--group", "g1", "--dry-run", "--json")

        assert (shown.code, shown.out.splitlines()[0]) == (0, f"2 dead letters would be {done}.")
        assert first in shown.out and second in shown.out and other not in shown.out
        assert told.json() == {"matched": 2, "done": 0, "dry_run": True, "refused": {}, "samples": [second, first]}
    assert listed(laneway) == [other, second, first]


def test_a_group_is_sent_again_and_the_others_stay(laneway: Shell) -> None:
    first, second, other = dead(laneway), dead(laneway), dead(laneway, "g2")
    ran = laneway("dead", "requeue", "--group", "g1")

    assert (ran.code, ran.out) == (0, "2 of 2 dead letters queued again.\n")
    assert [laneway.state(id) for id in (first, second, other)] == ["pending", "pending", "dead_letter"]
    again = laneway("dead", "requeue", "--group", "g1")
    assert (again.code, again.out) == (1, "0 of 0 dead letters queued again.\n")


def test_what_they_have_in_common_chooses_them(laneway: Shell) -> None:
    one, other = dead(laneway, error="timeout of [/x]"), dead(laneway, error="refused")

    assert listed(laneway, "--error", "[/X]") == [one]
    assert (
        listed(laneway, "--queue", "webhooks") == listed(laneway, "--name", "x") == listed(laneway, "--tag", "x") == []
    )
    assert laneway("dead", "requeue", "--error", "[/x]").code == 0
    assert listed(laneway) == [other]


def test_what_was_discarded_is_in_the_trash_and_can_be_restored(laneway: Shell) -> None:
    one, other = dead(laneway), dead(laneway)
    discarded = laneway("dead", "discard", one)

    assert (discarded.code, discarded.out) == (0, "1 of 1 dead letters discarded.\n")
    assert (listed(laneway), listed(laneway, "--trash")) == ([other], [one])
    refused = laneway("dead", "requeue", one)
    assert (refused.code, refused.out.splitlines()[1]) == (1, f"{one}: Dead letter '{one}' is in the trash.")
    assert laneway.state(one) == "dead_letter"
    restored = laneway("dead", "restore", one)
    assert (restored.code, restored.out) == (0, "1 of 1 dead letters restored.\n")
    assert (listed(laneway), listed(laneway, "--trash")) == ([other, one], [])
    assert laneway("dead", "restore", one).code == 1


def test_what_cannot_be_sent_again_is_named_and_stays(laneway: Shell) -> None:
    good, blank = dead(laneway), laneway.end(TaskState.DEAD_LETTER, payload={})
    ran = laneway("dead", "requeue", "--all")

    assert ran.code == 1
    assert ran.out.splitlines()[0] == "1 of 2 dead letters queued again."
    assert ran.out.splitlines()[1].startswith(f"{blank}: ")
    assert [laneway.state(good), laneway.state(blank)] == ["pending", "dead_letter"]


def test_a_message_that_could_not_be_read_is_shown_as_it_came(laneway: Shell) -> None:
    id = laneway.end(TaskState.DEAD_LETTER, raw=b"\xff\x00 broken")
    shown, told = laneway("dead", "show", id), laneway("dead", "show", id, "--json")

    assert (shown.code, told.code) == (0, 0)
    assert base64.b64decode(told.json()["raw"]) == b"\xff\x00 broken"
