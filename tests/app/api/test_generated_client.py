"""A client that a public generator makes of the OpenAPI document: it compiles, and works against the API."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.site import Site

GENERATOR = "openapi-python-client>=0.29,<0.30"
PROGRAM = """
import sys
from made import Client
from made.api.tasks import list_attempts, search_tasks, show_task, submit_task, submit_tasks
from made.models import (
    CleanupPeriod, Problem, SubmitCleanupOldWorkflows, TaskBatch, TaskState
)

with Client(base_url=sys.argv[1]) as client:
    body = SubmitCleanupOldWorkflows(name="cleanup_old_workflows", payload=CleanupPeriod(days=30))
    handle = submit_task.sync(client=client, body=body)
    done = show_task.sync(handle.task_id, client=client, wait=30)
    print(done.status, sorted(done.result.to_dict()), done.accepted_at.tzinfo)
    print([attempt.outcome for attempt in list_attempts.sync(handle.task_id, client=client)])
    batch = TaskBatch(tasks=[SubmitCleanupOldWorkflows(name="cleanup_old_workflows") for _ in range(3)])
    print(submit_tasks.sync(client=client, body=batch).created)
    page = search_tasks.sync(client=client, state=[TaskState.COMPLETED], name="cleanup_old_workflows", limit=1)
    print(len(page.tasks))
    missing = show_task.sync("nobody-has-this-id", client=client)
    print(type(missing) is Problem, missing.status, missing.title)
"""


@pytest.fixture
def made(tmp_path: Path, live: Site) -> Path:
    """A folder with an environment that has the generator, and the package `made` that it has generated."""
    python, document = tmp_path / ".venv" / "bin" / "python", tmp_path / "openapi.json"
    uv = str(Path(sys.executable).parent / "uv")
    document.write_bytes(live.http.get("/openapi.json").content)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(python.parent.parent)], check=True)
    installed = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", str(python), GENERATOR],
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode and not os.environ.get("CI"):
        pytest.skip(f"packages cannot be installed here: {installed.stderr[-500:]}")
    assert installed.returncode == 0, installed.stderr
    argv = ["openapi_python_client", "generate", "--path", str(document), "--output-path", str(tmp_path / "made")]
    generated = _run(python, "-m", *argv, "--meta", "none", "--fail-on-warning", PATH=_with_ruff(python))
    assert "WARNING" not in generated
    return tmp_path


@pytest.mark.parametrize("live_site", ["sqlite"], indirect=True)
def test_a_generated_client_compiles_and_works(live: Site, made: Path) -> None:
    python = made / ".venv" / "bin" / "python"
    _run(python, "-m", "compileall", "-q", str(made / "made"))
    (made / "program.py").write_text(PROGRAM)

    printed = _run(python, str(made / "program.py"), str(live.http.base_url)).splitlines()

    assert printed == [
        "completed ['workflows'] UTC",
        "['completed']",
        "3",
        "1",
        "True 404 Unknown task",
    ]


def _run(python: Path, *argv: str, **environment: str) -> str:
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | environment
    ran = subprocess.run([python, *argv], env=clean, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    return ran.stdout


def _with_ruff(python: Path) -> str:
    """The PATH on which the generator finds the formatter that it calls."""
    return os.pathsep.join([str(python.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
