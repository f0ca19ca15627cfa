"""One run of the demo: a client of the platform, a terminal, and the tasks that the run has followed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic, sleep
from typing import Any, Final
from uuid import uuid4

import httpx2
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from app.core.settings import ROOT, Settings
from app.development import webhook_secrets
from laneway.platform.errors import PlatformError
from laneway.server.processes import program

EXAMPLES: Final = ROOT / "examples"
FINISHED: Final = {"completed", "failed", "dead_letter", "cancelled", "expired"}
WAIT_SECONDS = 120


class DemoFailed(PlatformError):
    """The platform did not do what the demo expected."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(slots=True)
class DemoTask:
    """A task that the demo waits for; `status` is its last known status."""

    label: str
    task_id: str
    status: dict[str, Any] = field(default_factory=dict[str, Any])


class Scenario:
    """One run of the demo."""

    def __init__(self, settings: Settings, client: httpx2.Client, out: Console) -> None:
        self.settings, self._client, self.out = settings, client, out
        self.run_id = uuid4().hex[:8]
        """Part of every id, so that two runs do not share data."""
        self._secrets = webhook_secrets.for_development(settings)
        self.tasks: list[DemoTask] = []

    def title(self, text: str) -> None:
        """Print the title of a scene."""
        self.out.print()
        self.out.rule(Text(text, style="bold"), align="left")

    def say(self, text: str) -> None:
        """Print a sentence."""
        self.out.print(f"  {text}")

    def run_command(self, *words: str) -> None:
        """Run a command as a user would type it; it writes to the same terminal."""
        self.out.print(Text(f"  $ {' '.join(words)}", style="bold"))
        self.out.file.flush()
        if subprocess.run([program(words[0]), *words[1:]], check=False).returncode:  # noqa: S603
            raise DemoFailed(f"`{' '.join(words)}` failed.")

    def store(self, document: str) -> str:
        """Copy an example document into the storage; returns the reason if that is not possible, else ''."""
        if self.settings.documents.on_s3:
            return "objects are in S3 here (STORAGE_URL)."
        objects = self.settings.documents.folder(self.settings.storage.folder)
        objects.mkdir(parents=True, exist_ok=True)
        shutil.copy(EXAMPLES / "documents" / document, objects / document)
        return ""

    def post(self, path: str, **request: Any) -> dict[str, Any]:
        """Send a POST and return the response. Raises DemoFailed for an error."""
        return _json(self._client.post(path, **request))

    def put(self, path: str, **request: Any) -> dict[str, Any]:
        """Send a PUT and return the response. Raises DemoFailed for an error."""
        return _json(self._client.put(path, **request))

    def delete(self, path: str) -> None:
        """Send a DELETE. Raises DemoFailed for an error."""
        _json(self._client.delete(path))

    def get(self, path: str) -> dict[str, Any]:
        """Send a GET and return the response. Raises DemoFailed for an error."""
        return _json(self._client.get(path))

    def secret(self, name: str, configured: SecretStr | None) -> SecretStr:
        """The secret for signatures: the configured one, or the one generated in development."""
        if configured is None and name not in self._secrets:
            raise DemoFailed(f"The demo needs {name}, which is not set.")
        return configured or SecretStr(self._secrets[name])

    def wait(self, tasks: list[DemoTask]) -> None:
        """Wait until all tasks have ended, with a live bar for each. A repeated task is counted once."""
        self.tasks += [task for task in tasks if task not in self.tasks]
        columns = (TextColumn("  {task.description:<34}"), BarColumn(), TextColumn("{task.fields[state]}"))
        with Progress(*columns, console=self.out) as bars:
            rows = [(task, bars.add_task(task.label, total=100, state="")) for task in tasks]
            self.wait_until(
                lambda: all([self._update(bars, row, task) for task, row in rows]),  # noqa: C419  updates every bar
                lambda: _timeout_message(tasks),
            )

    def wait_until(self, condition: Callable[[], bool], timeout_message: Callable[[], str]) -> None:
        """Poll a condition until it holds. Raises DemoFailed with the message after WAIT_SECONDS."""
        deadline = monotonic() + WAIT_SECONDS
        while not condition():
            if monotonic() > deadline:
                raise DemoFailed(timeout_message())
            sleep(0.1)

    def task_table(self) -> Table:
        """The tasks of this run with their states and times."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("task", "queue", "state", "attempts", "waited s", "ran s"):
            numeric = column in ("attempts", "waited s", "ran s")
            table.add_column(column, no_wrap=True, justify="right" if numeric else "left")
        for task in self.tasks:
            status = task.status
            waited, ran = _seconds(status, "accepted_at", "started_at"), _seconds(status, "started_at", "finished_at")
            table.add_row(status["name"], status["queue"], status["status"], str(status["attempts"]), waited, ran)
        return table

    def _update(self, bars: Progress, row: TaskID, task: DemoTask) -> bool:
        """Fetch a task's status and update its bar; returns whether the task has ended."""
        task.status = self.get(f"/tasks/{task.task_id}")
        state, detail = task.status["status"], task.status.get("message") or task.status.get("waiting_for") or ""
        ended = state in FINISHED
        bars.update(row, completed=task.status["progress"], state=state if ended else f"{state} {detail}")
        return ended


def example(*path: str) -> dict[str, Any]:
    """A JSON file of `examples/`."""
    return json.loads(EXAMPLES.joinpath(*path).read_text("utf-8"))


def _json(response: httpx2.Response) -> dict[str, Any]:
    if response.status_code >= 400:
        detail = response.json().get("detail", response.text)
        raise DemoFailed(f"{response.request.method} {response.request.url.path}: {detail}")
    return response.json() if response.content else {}


def _timeout_message(tasks: Iterable[DemoTask]) -> str:
    unfinished = [task for task in tasks if task.status.get("status") not in FINISHED]
    states = ", ".join(f"{task.label} is {task.status['status']}" for task in unfinished)
    return f"Not done after {WAIT_SECONDS} s: {states}. `laneway stats` shows what is wrong."


def _seconds(status: dict[str, Any], first: str, last: str) -> str:
    if not (status.get(first) and status.get(last)):
        return ""
    return f"{(datetime.fromisoformat(status[last]) - datetime.fromisoformat(status[first])).total_seconds():.2f}"
