"""The command submit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from laneway.platform.registry import registry
from laneway.schemas.task import TaskState
from tests.fixtures.registry import register_spec
from tests.fixtures.shell import Shell

REPORT = "generate_performance_report_task"
MESSAGE = "process_conversation_message_task"
HELLO = json.dumps({"conversation_id": "c-1", "message": "Hello"})


def test_a_task_is_submitted_with_its_options(laneway: Shell, tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text(HELLO)
    options = ("--id", "by-hand", "--delay", "2h", "--expires", "1d", "--priority", "high", "--tag", "night")
    handle = laneway("submit", MESSAGE, "--payload", f"@{file}", *options, "--key", "ada", "--json").json()
    row = laneway.site.row("by-hand")

    assert handle == {"task_id": "by-hand", "state": "scheduled", "created": True}
    assert (row.state, row.priority, row.tags) == (TaskState.SCHEDULED, 2, ["night"])
    assert (row.payload["message"], row.key) == ("Hello", "ada")
    assert row.due_at and round((row.due_at - row.accepted_at).total_seconds()) == 7200
    assert row.expires_at and round((row.expires_at - row.accepted_at).total_seconds()) == 86_400
    assert laneway("submit", MESSAGE, "--payload", HELLO, "--id", "by-hand").out == "Accepted before: by-hand\n"
    assert laneway("submit", REPORT).out.startswith("Accepted: ")


def test_what_became_of_a_submission_of_a_key_is_told(laneway: Shell) -> None:
    debounced = ("submit", REPORT, "--debounce", "5s", "--debounce-max", "1m", "--debounce-key", "ada")
    id = laneway(*debounced, "--json").json()["task_id"]
    first = laneway("submit", REPORT, "--key", "bob", "--json").json()["task_id"]
    newest = laneway("submit", REPORT, "--key", "bob", "--if-busy", "newest").out.split()

    assert laneway(*debounced).out == f"Merged into the waiting task: {id}\n"
    assert (newest[0], newest[2:]) == ("Accepted:", ["Stopped", "for", "it:", first])
    assert laneway("submit", REPORT, "--key", "bob", "--if-busy", "drop").out == (
        f"Dropped: the key is busy with the task {newest[1]}\n"
    )
    assert laneway("submit", REPORT, "--throttle", "1h", "--throttle-key", "eve").out.startswith("Accepted: ")
    assert laneway("submit", REPORT, "--throttle", "1h", "--throttle-key", "eve").out.startswith("Not accepted: ")


def test_an_earlier_name_is_accepted_and_the_present_one_is_told(
    laneway: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_spec(monkeypatch, replace(registry[REPORT], aliases=("old_report",)))
    monkeypatch.setattr(registry, "_aliases", {"old_report": REPORT})
    ran = laneway("submit", "old_report")

    assert ran.out.startswith("Accepted: ")
    assert f"The task is called {REPORT} now." in ran.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("no_such_task",), "no_such_task"),
        ((MESSAGE, "--payload", '{"message": "Hello"}'), "conversation_id"),
        ((MESSAGE, "--payload", "[1]"), "The payload is not a JSON object"),
        ((MESSAGE, "--payload", "{message: Hello}"), "The payload cannot be read as JSON"),
        ((MESSAGE, "--payload", "@/no/such/file"), "No such file"),
        ((REPORT, "--delay", "soon"), "no duration"),
        ((REPORT, "--delay", "9999d"), "delay: Input should be less than"),
        ((REPORT, "--tag", "two words"), "tags.0"),
        ((REPORT, "--id", "a/b"), "id: "),
        ((REPORT, "--debounce", "5s"), "debounce needs a key"),
        ((REPORT, "--if-busy", "newst", "--key", "a"), "'newst' is not one of"),
        ((REPORT, "--key", ""), "key: String should have at least 1 character"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_submitted(laneway: Shell, words: tuple[str, ...], sentence: str) -> None:
    refused = laneway("submit", *words)

    assert refused.code in (1, 2)
    assert sentence in " ".join(refused.err.split())
    assert "Traceback" not in refused.err
    assert laneway("search").out == "None.\n"
