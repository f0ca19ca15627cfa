"""The pipeline with real processes: a worker for each type, a real project, real deaths."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.development.pipeline_example import EXAMPLE, INPUT, copy_example
from app.schemas.pipeline import Step
from laneway.platform.schemas.task import TaskState
from tests.fixtures.pipeline import runs
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
"""A command with a child, deaf to SIGTERM, that goes on when there is a file `go`."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The API and one worker for each type of step; the example's commands are allowed, and a stubborn one."""
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
    """A fresh copy of the example, named after the test."""
    return copy_example(site.folder / "work", request.node.name)


def begin_worker(site: Site, queue: str, name: str = "") -> Node:
    """A worker for one queue, by the command that a person would type."""
    return site.start(name or queue, "laneway", "worker", "--queue", queue, "--name", name or queue, "-c", "1")


def submit(site: Site, step: Step, folder: Path, command: str) -> str:
    """One step as a single task; its id."""
    body = {"type": step.value, "payload": {"folder": folder.name, "command": command}}
    return str(site.post("/tasks", body)["task_id"])


def family(project: Path, *, number: int = 1) -> list[int]:
    """The processes of the stubborn command, once it was started so often."""

    def noted() -> list[Path]:
        found = sorted(project.glob("pids-*"), key=lambda path: path.stat().st_mtime_ns)
        return found if len(found) >= number else []

    last = wait_until(noted, seconds=START_SECONDS)[number - 1]
    return [int(pid) for pid in last.read_text().split()]


def gone(pids: list[int]) -> bool:
    """Whether none of them runs."""
    return not any(runs(pid) for pid in pids)


def test_a_project_goes_from_dev_to_its_release_and_each_step_runs_at_the_worker_of_its_type(
    site: Site, project: Path
) -> None:
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


def test_a_command_that_hangs_is_ended_at_its_limit_with_its_child(site: Site, project: Path) -> None:
    id = submit(site, Step.QA, project, "stubborn")
    pids = family(project)

    run = site.until(id, seconds=LIMIT + 20)

    assert (run.state, run.error_type, run.attempts) == (TaskState.FAILED, "CommandFailed", 1)
    assert f"ran longer than PIPELINE_TIMEOUT_SECONDS ({LIMIT} s) and was ended" in (run.error or "")
    assert gone(pids)


def test_a_cancelled_task_ends_its_command_with_its_child(site: Site, project: Path) -> None:
    id = submit(site, Step.QA, project, "stubborn")
    pids = family(project)

    site.post(f"/tasks/{id}/cancel")

    assert site.until(id).state == TaskState.CANCELLED
    wait_until(lambda: gone(pids), seconds=5)


def test_a_step_whose_worker_is_killed_is_taken_over_and_nothing_of_its_first_command_is_left(
    site: Site, project: Path
) -> None:
    id = submit(site, Step.QA, project, "stubborn")
    first = family(project)
    killed = next(node for node in site.nodes if node.name == "qa")
    killed.process.kill()  # alone: nobody tells its child, the guard or the command
    for child in killed.process.children(recursive=False):
        child.kill()
    wait_until(lambda: gone(first), seconds=LEASE + 10)

    site.until_reported(begin_worker(site, "qa", "heir"))
    second = family(project, number=2)
    (project / "go").touch()

    run = site.until(id, seconds=60)
    assert (run.state, run.attempts) == (TaskState.COMPLETED, 2)
    assert (run.worker or "").startswith("heir@")
    assert run.result is not None and run.result["output"] == "went on\n"
    assert gone([*first, *second])


def test_a_command_outside_the_list_is_refused_and_never_run(site: Site, project: Path) -> None:
    id = submit(site, Step.DEPLOY, project, "stubborn")

    run = site.until(id)

    assert (run.state, run.attempts) == (TaskState.FAILED, 1)
    assert run.error == "The command 'stubborn' is not allowed for deploy; PIPELINE_COMMANDS allows: release."
    assert not list(project.glob("pids-*"))
