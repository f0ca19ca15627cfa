"""Scenes of the other systems: a document, a workflow, a pipeline, a lead."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from rich.table import Table

from app.core.settings import Settings
from app.demo.conversations import send_message, show_conversation
from app.demo.scenario import DemoFailed, DemoTask, Scenario, example
from app.development import pipeline_example

DOCUMENT = "battery-care.docx"
QUESTION = "At which temperature should I store the battery in winter?"
RUN_FINISHED = {"completed", "failed", "cancelled"}


def document(scenario: Scenario) -> None:
    """A document from the storage becomes passages, and a reply cites it."""
    if obstacle := scenario.store(DOCUMENT):
        scenario.say(f"Left out: {obstacle}")
        return
    body = {"document_id": DOCUMENT, "user_id": "demo", "file_name": DOCUMENT, "r2_key": DOCUMENT}
    handle = scenario.post("/api/documents/process", json=body)
    scenario.wait([DemoTask(DOCUMENT, handle["task_id"])])
    conversation = f"demo-document-{scenario.run_id}"
    scenario.wait([send_message(scenario, conversation, 1, QUESTION)])
    show_conversation(scenario, conversation)


def workflow(scenario: Scenario) -> None:
    """A workflow behind the chat endpoint: what automating a task would save."""
    figures = {"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}
    context = {"workflow_type": "savings_assessment", "calculator_inputs": figures}
    started = scenario.post("/api/chat", json={"agent_id": "demo", "mode": "execute", "context": context})
    _show_run(scenario, _wait_for_run(scenario, started["workflow_id"]))


def pipeline(scenario: Scenario) -> None:
    """A pipeline on a real project: built, tested, repaired, tested again, deployed."""
    root = _pipeline_root(scenario.settings)
    if root is None:
        scenario.say("Left out: `make up` allows the example's commands in development only.")
        return
    name = f"demo-{scenario.run_id}"
    pipeline_example.copy_example(root, name)
    started = scenario.post(
        "/api/workflows",
        json={"workflow_type": "delivery_pipeline", "input": {"folder": name, **pipeline_example.INPUT}},
    )
    run = _wait_for_run(scenario, started["workflow_id"])
    _show_run(scenario, run)
    shutil.rmtree(root / name, ignore_errors=True)


def lead(scenario: Scenario) -> None:
    """A lead and its change; the CRM gets both, in order."""
    body = example("leads", "lead.json") | {"lead_id": f"lead-demo-{scenario.run_id}"}
    lead_path = f"/api/leads/{body['lead_id']}"
    accepted = [
        scenario.post("/api/leads", json=body),
        scenario.put(lead_path, json=example("leads", "lead-changed.json")),
    ]
    updates = [item for item in accepted if item["task_id"]]
    scenario.wait([DemoTask(f"version {item['version']} for the CRM", item["task_id"]) for item in updates])
    stored = scenario.get(lead_path)
    scenario.out.print(f"  {stored['name']} is {stored['status']}: version {stored['version']}; the CRM has:")
    scenario.out.print_json(data=stored["crm"])


def _wait_for_run(scenario: Scenario, id: str) -> dict[str, Any]:
    """Wait for the end of a workflow, and return it. Its tasks count among the tasks of the demo."""
    run: dict[str, Any] = {}

    def finished() -> bool:
        run.update(scenario.get(f"/api/workflows/{id}"))
        return run["state"] in RUN_FINISHED

    scenario.wait_until(finished, lambda: f"The workflow {id} is {run['state']}: {'; '.join(run['waiting_for'])}.")
    steps = [step for step in run["steps"] if step["task_id"]]
    scenario.wait([DemoTask(f"{step['step']} {step['visit']}", step["task_id"]) for step in steps])
    if run["state"] != "completed":
        raise DemoFailed(f"The workflow {id} is {run['state']}: `laneway workflows show {id}` shows why.")
    return run


def _show_run(scenario: Scenario, run: dict[str, Any]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("step", "visit", "state"):
        table.add_column(column, no_wrap=True)
    table.add_column("output")
    for step in run["steps"]:
        if step["task_id"]:
            table.add_row(step["step"], str(step["visit"]), step["state"], _summary(step["output"] or {}))
    scenario.out.print(table)


def _summary(output: dict[str, Any]) -> str:
    """A step's output in one line; of a command's output the last line."""
    if "output_bytes" in output:
        written = str(output["output"]).strip()
        return written.splitlines()[-1] if written else "(no output)"
    return ", ".join(f"{name}: {value}" for name, value in output.items())


def _pipeline_root(settings: Settings) -> Path | None:
    root = pipeline_example.for_development(settings).get("PIPELINE_ROOT")
    return Path(root) if root else None
