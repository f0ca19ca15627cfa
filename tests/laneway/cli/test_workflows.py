"""`laneway workflows`: start, show, cancel, retry and signal workflows, and errors in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.services.container import Services
from laneway.platform.workflows.definitions import checked_plan, parsed_definition
from laneway.platform.workflows.runs import StartOptions
from tests.fixtures.shell import Shell

INPUT = '{"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}'


def start(laneway: Shell, id: str) -> None:
    """Start an assessment."""
    assert laneway("workflows", "start", "savings_assessment", "--input", INPUT, "--id", id).code == 0


def test_a_workflow_is_started_once_listed_shown_and_cancelled(laneway: Shell) -> None:
    data = laneway("workflows", "start", "savings_assessment", "--input", INPUT, "--id", "cli-1", "--json").json()
    again = laneway("workflows", "start", "savings_assessment", "--input", INPUT, "--id", "cli-1")
    assert (data["task_id"], data["created"]) == ("cli-1:validate:1", True)
    assert again.out == "Already accepted: cli-1 (task cli-1:validate:1, pending)\n"

    shown, details = laneway("workflows", "show", "cli-1"), laneway("workflows", "show", "cli-1", "--json").json()
    listed = laneway("workflows", "list", "--state", "pending", "--json").json()
    assert "waits for  validate: a worker: none serves the queue 'workflows'" in shown.out
    assert [step["state"] for step in details["steps"]] == ["pending", "to_come", "to_come", "to_come"]
    assert "cli-1" in [run["workflow_id"] for run in listed]
    assert "savings_assessment" in laneway("workflows", "list").out

    assert laneway("workflows", "cancel", "cli-1").out == "Cancelled.\n"
    assert laneway("workflows", "list", "--state", "cancelled", "--type", "savings_assessment", "--json").json()


def test_a_workflow_is_paused_and_resumed(laneway: Shell) -> None:
    start(laneway, "cli-5")

    assert laneway("workflows", "pause", "cli-5").out == "Paused.\n"
    assert laneway("workflows", "pause", "cli-5").out.startswith("It was paused before, by ")
    assert "paused by" in laneway("workflows", "show", "cli-5").out
    assert laneway("workflows", "list", "--json").json()[0]["paused_at"]
    assert laneway("workflows", "resume", "cli-5", "--json").json()["changed"] is True
    assert laneway("workflows", "resume", "cli-5").out == "It is not paused.\n"


def test_a_signal_to_a_task_is_kept_once(laneway: Shell) -> None:
    id = laneway.site.services.tasks.submit("cleanup_old_data_task", {}).task_id

    assert laneway("signal", id, "approve", "--data", '{"by": "Ada"}').out == "Kept until the task waits for it.\n"
    assert laneway("signal", id, "approve", "--data", '{"by": "Ada"}').out == "It was sent before.\n"
    assert laneway("signal", id, "approve", "--id", "2", "--json").json()["created"] is True
    assert laneway("signal", id, "approve", "--data", "[]").code == 2
    assert laneway("signal", "nobody", "approve").code == 1


def test_a_cancelled_workflow_is_continued_or_started_again(laneway: Shell) -> None:
    start(laneway, "cli-2")
    laneway("workflows", "cancel", "cli-2")

    assert laneway("workflows", "retry", "cli-2").out == "Continued: cli-2 (task cli-2:validate:1, pending)\n"
    restarted = laneway("workflows", "retry", "cli-2", "--from-start", "--newest", "--json").json()

    assert restarted["workflow_id"] != "cli-2"
    assert laneway("workflows", "show", restarted["workflow_id"], "--json").json()["retry_of"] == "cli-2"


def test_a_signal_is_kept_until_its_step_waits_for_it(laneway: Shell) -> None:
    steps = [
        {"name": "approve", "kind": "signal", "timeout": 60, "after": ["pause"]},
        {"name": "pause", "kind": "wait", "seconds": 60},
    ]
    services = laneway.site.services
    plan = checked_plan(
        parsed_definition("tried", {"name": "tried", "steps": steps}), handlers=services.workflow_handlers, inputs={}
    )
    services.workflows.start_plan(plan, {}, options=StartOptions(id="cli-3"))

    sent = laneway("workflows", "signal", "cli-3", "approve", "--data", '{"by": "Ada"}')
    assert sent.out == "Kept until the step waits for it.\n"
    assert laneway("workflows", "signal", "cli-3", "approve", "--data", '{"by": "Ada"}', "--json").json() == {
        "workflow_id": "cli-3",
        "signal": "approve",
        "created": False,
        "delivered": False,
    }


def test_definitions_are_listed(laneway: Shell) -> None:
    data = laneway("workflows", "definitions", "--json").json()

    assert "savings_assessment" in {definition["workflow_type"] for definition in data}
    assert "validate, calculate, record_metrics" in laneway("workflows", "definitions").out


def test_errors_are_reported_in_one_sentence(laneway: Shell) -> None:
    wrong = json.dumps({**json.loads(INPUT), "hourly_wage": -1})
    for words, message in (
        (("start", "brew_coffee"), "no workflow type 'brew_coffee'"),
        (("start", "savings_assessment", "--input", wrong), "hourly_wage"),
        (("start", "savings_assessment", "--input", "{"), "--input is not JSON"),
        (("start", "savings_assessment", "--input", "[]"), "must be a JSON object"),
        (("show", "nobody"), "No workflow 'nobody' is known here."),
        (("retry", "nobody"), "No workflow 'nobody'"),
        (("signal", "nobody", "go"), "No workflow 'nobody'"),
    ):
        ran = laneway("workflows", *words)
        assert ran.code != 0 and message in ran.err, words
        assert "Traceback" not in ran.err


def test_a_broken_definition_is_named_and_the_others_are_listed(
    laneway: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.yaml").write_text("name: good\nsteps: [{name: a, kind: wait, seconds: 1}]\n")
    (tmp_path / "bad.yaml").write_text("name: bad\nsteps:\n  - {name: a, handler: gone}\n")
    monkeypatch.setattr(Services, "workflow_folder", tmp_path)
    listed, started = laneway("workflows", "definitions"), laneway("workflows", "start", "bad")

    assert (listed.code, "good" in listed.out) == (1, True)
    assert listed.err.startswith("bad.yaml is not valid: line 3: step 'a': there is no handler 'gone'")
    assert started.code == 1 and started.err.startswith("The workflow 'bad' cannot be started, because")
    assert laneway("workflows", "start", "good").code == 0
