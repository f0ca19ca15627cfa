"""Scenes of the other four systems: a pipeline, a document, a workflow, a lead."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from rich.table import Table

from app.core.settings import Settings
from app.demo.conversations import ask, show
from app.demo.scenario import Asked, DemoFailed, Stage, example
from app.development import pipeline_example

DOCUMENT = "battery-care.docx"
QUESTION = "At which temperature should I store the battery in winter?"
RUN_OVER = {"completed", "failed", "cancelled"}


def document(stage: Stage) -> None:
    """A document out of the storage becomes passages, and a reply cites it."""
    if missing := stage.store(DOCUMENT):
        stage.say(f"Left out: {missing}")
        return
    body = {"document_id": DOCUMENT, "user_id": "demo", "file_name": DOCUMENT, "r2_key": DOCUMENT}
    handle = stage.post("/api/documents/process", json=body)
    stage.wait([Asked(DOCUMENT, handle["task_id"])])
    stage.wait([ask(stage, f"demo-document-{stage.mark}", 1, QUESTION)])
    show(stage, f"demo-document-{stage.mark}")


def workflow(stage: Stage) -> None:
    """A workflow behind the chat endpoint: what automating a task would save."""
    figures = {"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}
    context = {"workflow_type": "savings_assessment", "calculator_inputs": figures}
    started = stage.post("/api/chat", json={"agent_id": "demo", "mode": "execute", "context": context})
    _show_run(stage, _followed(stage, started["workflow_id"]))


def pipeline(stage: Stage) -> None:
    """A pipeline on a real project: built, tested, mended, tested again, deployed."""
    root = _pipeline_root(stage.settings)
    if root is None:
        stage.say("Left out: the example's commands are allowed by `make up` in development only.")
        return
    name = f"demo-{stage.mark}"
    pipeline_example.copy_example(root, name)
    started = stage.post(
        "/api/workflows",
        json={"workflow_type": "delivery_pipeline", "input": {"folder": name, **pipeline_example.INPUT}},
    )
    run = _followed(stage, started["workflow_id"])
    _show_run(stage, run)
    shutil.rmtree(root / name, ignore_errors=True)


def lead(stage: Stage) -> None:
    """A lead and its change; the CRM is told of both, in order."""
    first = example("leads", "lead.json") | {"lead_id": f"lead-demo-{stage.mark}"}
    told = [stage.post("/api/leads", json=first)]
    told.append(stage.put(f"/api/leads/{first['lead_id']}", json=example("leads", "lead-changed.json")))
    stage.wait([Asked(f"version {one['version']} for the CRM", one["task_id"]) for one in told if one["task_id"]])
    known = stage.get(f"/api/leads/{first['lead_id']}")
    stage.out.print(f"  {known['name']} is {known['status']}: version {known['version']}; the CRM knows:")
    stage.out.print_json(data=known["crm"])


def _followed(stage: Stage, id: str) -> dict[str, Any]:
    """A workflow until it is over; its tasks count among those that were seen."""
    run: dict[str, Any] = {}

    def over() -> bool:
        run.update(stage.get(f"/api/workflows/{id}"))
        return run["state"] in RUN_OVER

    stage.until(over, lambda: f"The workflow {id} is {run['state']}: {'; '.join(run['waiting_for'])}.")
    stage.wait([Asked(f"{step['step']} {step['visit']}", step["task_id"]) for step in run["steps"] if step["task_id"]])
    if run["state"] != "completed":
        raise DemoFailed(f"The workflow {id} is {run['state']}: `laneway workflows show {id}` says why.")
    return run


def _show_run(stage: Stage, run: dict[str, Any]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("step", "visit", "state"):
        table.add_column(column, no_wrap=True)
    table.add_column("what it gave")
    for step in run["steps"]:
        if step["task_id"]:
            table.add_row(step["step"], str(step["visit"]), step["state"], _gist(step["output"] or {}))
    stage.out.print(table)


def _gist(output: dict[str, Any]) -> str:
    """What a step gave, in one line: of a command the last line that it wrote."""
    if "output_bytes" in output:
        written = str(output["output"]).strip()
        return written.splitlines()[-1] if written else "(no output)"
    return ", ".join(f"{name}: {value}" for name, value in output.items())


def _pipeline_root(settings: Settings) -> Path | None:
    given = pipeline_example.for_development(settings).get("PIPELINE_ROOT")
    return Path(given) if given else None
