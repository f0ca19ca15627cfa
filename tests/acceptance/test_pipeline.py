"""The pipeline with real processes: a worker for each step, a real project, real kills."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.development.pipeline_example import EXAMPLE, INPUT, copy_example
from app.schemas.pipeline import Step
from laneway.schemas.task import TaskState
from tests.fixtures.pipeline import processes_in
from tests.fixtures.site import LEASE, START_SECONDS, Node, Site, running_site
from tests.fixtures.waiting import wait_until

LIMIT = 8
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
with open("pids.new", "w") as file: file.write(f"{os.getpid()} {child.pid}")
os.rename("pids.new", f"pids-{os.getpid()}")
while not os.path.exists("go"): time.sleep(0.02)
print("went on")
"""
"""A command with a child. Both ignore SIGTERM and continue when a file `go` exists."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The API and one worker for each step; the example's commands and a stubborn one are allowed."""
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "work").mkdir()
    commands: dict[str, Any] = json.loads((EXAMPLE / "commands.json").read_text())
    commands["qa"]["stubborn"] = [sys.executable, "-c", STUBBORN]
    limits = {"PIPELINE_TIMEOUT_SECONDS": str(LIMIT), "PIPELINE_GRACE_SECONDS": "0.5"}
    with running_site(
        folder, PIPELINE_ROOT=str(folder / "work"), PIPELINE_COMMANDS=json.dumps(commands), **limits
    ) as site:
        workers = [begin_worker(site, step.value) for step in Step]
        site.api()
        for worker in workers:
            site.until_reported(worker)
        yield site


@pytest.fixture
def project(site: Site, request: pytest.FixtureRequest) -> Path:
    """A new copy of the example, named after the test."""
    return copy_example(site.folder / "work", request.node.name)


def begin_worker(site: Site, queue: str, name: str = "") -> Node:
    """Start a worker for one queue with `laneway worker`."""
    return site.start(name or queue, "laneway", "worker", "--queue", queue, "--name", name or queue, "-c", "1")


def submit(site: Site, step: Step, folder: Path, command: str) -> str:
    """Submit one step as a single task; returns its id."""
    body = {"type": step.value, "payload": {"folder": folder.name, "command": command}}
    return str(site.post("/tasks", body)["task_id"])


def family(project: Path) -> list[int]:
    """The stubborn command and its child, once both run."""

    def both() -> list[int]:
        found = processes_in(project)
        return found if len(found) == 2 and list(project.glob("pids-*")) else []

    return wait_until(both, seconds=START_SECONDS)


def have_ended(pids: list[int]) -> bool:
    """Whether none of the processes runs."""
    return not any(psutil.pid_exists(pid) for pid in pids)


def test_a_project_goes_through_all_steps_and_each_runs_in_the_worker_of_its_queue(site: Site, project: Path) -> None:
    body = {"workflow_type": "delivery_pipeline", "input": {"folder": project.name, **INPUT}}
    id = site.post("/api/workflows", body)["workflow_id"]

    def ended() -> dict[str, Any] | None:
        found = site.get(f"/api/workflows/{id}")
        return found if found["state"] in ("completed", "failed", "cancelled") else None

    view = wait_until(ended, seconds=60)
    assert view is not None
    visits = [(step["step"], step["visit"], step["state"]) for step in view["steps"]]
    assert (view["state"], visits) == (
        "completed",
        [
            ("dev", 1, "ok"),
            ("qa", 1, "failed"),
            ("fix", 1, "ok"),
            ("qa", 2, "ok"),
            ("deploy", 1, "ok"),
        ],
    )
    first, fixed, second = (view["steps"][at]["output"] for at in (1, 2, 3))
    assert "FAIL: test_taxes_are_paid_on_what_is_left_after_the_discount" in first["output"]
    assert fixed["output"].endswith("applied: tax-after-discount.patch\n")
    assert (second["exit_code"], "OK" in second["output"]) == (0, True)
    released = json.loads((project / "released" / "release.json").read_text())
    assert list(released) == ["invoice/__init__.py", "invoice/totals.py"]
    assert "net(prices" in (project / "released" / "invoice" / "totals.py").read_text()
    for step in view["steps"]:
        run = site.row(step["task_id"])
        assert run.queue == step["step"] and (run.worker or "").startswith(f"{step['step']}@")


def test_a_hanging_command_and_its_child_are_ended_at_the_time_limit(site: Site, project: Path) -> None:
    id = submit(site, Step.QA, project, "stubborn")
    pids = family(project)

    run = site.until(id, seconds=LIMIT + 20)

    assert (run.state, run.error_type, run.attempts) == (TaskState.FAILED, "CommandFailed", 1)
    assert f"ran longer than PIPELINE_TIMEOUT_SECONDS ({LIMIT} s) and was ended" in (run.error or "")
    assert have_ended(pids)


def test_cancelling_a_task_ends_its_command_and_the_child(site: Site, project: Path) -> None:
    id = submit(site, Step.QA, project, "stubborn")
    pids = family(project)

    site.post(f"/tasks/{id}/cancel")

    assert site.until(id).state == TaskState.CANCELLED
    wait_until(lambda: have_ended(pids), seconds=5)


def test_a_step_of_a_killed_worker_is_taken_over_and_its_first_command_is_ended(site: Site, project: Path) -> None:
    id = submit(site, Step.QA, project, "stubborn")
    first = family(project)
    killed = next(node for node in site.nodes if node.name == "qa")
    killed.process.kill()  # alone: its child, the guard and the command receive no signal
    for child in killed.process.children(recursive=False):
        child.kill()
    wait_until(lambda: have_ended(first), seconds=LEASE + 10)

    site.until_reported(begin_worker(site, "qa", "heir"))
    second = family(project)
    (project / "go").touch()

    run = site.until(id, seconds=60)
    assert (run.state, run.attempts) == (TaskState.COMPLETED, 2)
    assert (run.worker or "").startswith("heir@")
    assert run.result is not None and run.result["output"] == "went on\n"
    assert have_ended([*first, *second])


def test_a_command_that_is_not_allowed_is_refused(site: Site, project: Path) -> None:
    id = submit(site, Step.DEPLOY, project, "stubborn")

    run = site.until(id)

    assert (run.state, run.attempts) == (TaskState.FAILED, 1)
    assert run.error == "The command 'stubborn' is not allowed for deploy; PIPELINE_COMMANDS allows: release."
    assert not list(project.glob("pids-*"))
