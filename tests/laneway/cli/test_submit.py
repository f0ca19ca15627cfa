"""The command submit, and time spans as people write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from laneway.cli.submit import seconds
from laneway.schemas.task import TaskState
from tests.fixtures.shell import Shell

REPORT = "generate_performance_report_task"
MESSAGE = "process_conversation_message_task"
HELLO = json.dumps({"conversation_id": "c-1", "message": "Hello"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90", 90),
        ("0", 0),
        ("1.5", 1.5),
        ("250ms", 0.25),
        ("10m", 600),
        ("2h", 7200),
        ("1d12h", 129_600),
        ("1.5h", 5400),
    ],
)
def test_time_spans_are_read_as_people_write_them(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "-1", "soon", "10 m", "m", "1h-2m", "nan", "1y"])
def test_another_text_is_no_time_span(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no time span"):
        seconds(text)


def test_a_task_is_submitted_with_its_options(laneway: Shell, tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text(HELLO)
    options = ("--id", "by-hand", "--delay", "2h", "--expires", "1d", "--priority", "high", "--tag", "night", "--json")
    handle = laneway("submit", MESSAGE, "--payload", f"@{file}", *options).json()
    row = laneway.site.row("by-hand")

    assert handle == {"task_id": "by-hand", "state": "scheduled", "created": True}
    assert (row.state, row.priority, row.tags) == (TaskState.SCHEDULED, 2, ["night"])
    assert row.payload["message"] == "Hello"
    assert row.due_at and round((row.due_at - row.accepted_at).total_seconds()) == 7200
    assert row.expires_at and round((row.expires_at - row.accepted_at).total_seconds()) == 86_400
    assert laneway("submit", MESSAGE, "--payload", HELLO, "--id", "by-hand").out == "Accepted before: by-hand\n"
    assert laneway("submit", REPORT).out.startswith("Accepted: ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("no_such_task",), "no_such_task"),
        ((MESSAGE, "--payload", '{"message": "Hello"}'), "conversation_id"),
        ((MESSAGE, "--payload", "[1]"), "The payload is not a JSON object"),
        ((MESSAGE, "--payload", "{message: Hello}"), "The payload cannot be read as JSON"),
        ((MESSAGE, "--payload", "@/no/such/file"), "No such file"),
        ((REPORT, "--delay", "soon"), "no time span"),
        ((REPORT, "--delay", "9999d"), "delay: Input should be less than"),
        ((REPORT, "--tag", "two words"), "tags.0"),
        ((REPORT, "--id", "a/b"), "id: "),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_submitted(laneway: Shell, words: tuple[str, ...], sentence: str) -> None:
    refused = laneway("submit", *words)

    assert refused.code in (1, 2)
    assert sentence in " ".join(refused.err.split())
    assert "Traceback" not in refused.err
    assert laneway("search").out == "None.\n"
