"""What the scenes of the demo play on: a client of the platform, a terminal, and the tasks that were seen."""

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
OVER: Final = {"completed", "failed", "dead_letter", "cancelled", "expired"}
TASK_SECONDS = 120


class DemoFailed(PlatformError):
    """The platform did not do what the demo asked of it."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(slots=True)
class Asked:
    """A task that the demo waits for."""

    label: str
    task_id: str
    status: dict[str, Any] = field(default_factory=dict[str, Any])


class Stage:
    """One run of the demo."""

    def __init__(self, settings: Settings, client: httpx2.Client, out: Console) -> None:
        self.settings, self._client, self.out = settings, client, out
        self.mark = uuid4().hex[:8]
        """What tells the things of this run from those of others."""
        self._secrets = webhook_secrets.for_development(settings)
        self.seen: list[Asked] = []

    def title(self, text: str) -> None:
        """Where a scene begins."""
        self.out.print()
        self.out.rule(Text(text, style="bold"), align="left")

    def say(self, text: str) -> None:
        """A sentence."""
        self.out.print(f"  {text}")

    def command(self, *words: str) -> None:
        """Run a command as a person would type it; it writes to the same terminal."""
        self.out.print(Text(f"  $ {' '.join(words)}", style="bold"))
        self.out.file.flush()
        if subprocess.run([program(words[0]), *words[1:]], check=False).returncode:  # noqa: S603
            raise DemoFailed(f"`{' '.join(words)}` failed.")

    def store(self, document: str) -> str:
        """Put an example's document into the platform's storage; why that cannot be done, if so."""
        if self.settings.documents.on_s3:
            return "objects are in S3 here (STORAGE_URL)."
        objects = self.settings.documents.folder(self.settings.storage.folder)
        objects.mkdir(parents=True, exist_ok=True)
        shutil.copy(EXAMPLES / "documents" / document, objects / document)
        return ""

    def post(self, path: str, **request: Any) -> dict[str, Any]:
        """The answer, which must be a good one."""
        return _answered(self._client.post(path, **request))

    def put(self, path: str, **request: Any) -> dict[str, Any]:
        """The answer, which must be a good one."""
        return _answered(self._client.put(path, **request))

    def get(self, path: str) -> dict[str, Any]:
        """The answer, which must be a good one."""
        return _answered(self._client.get(path))

    def secret(self, name: str, given: SecretStr | None) -> SecretStr:
        """A secret that the platform checks signatures with."""
        if given is None and name not in self._secrets:
            raise DemoFailed(f"The demo needs {name}, which is not set.")
        return given or SecretStr(self._secrets[name])

    def wait(self, asked: list[Asked]) -> None:
        """Follow the tasks until all are over, with a live bar for each. One that was run again is counted once."""
        self.seen += [one for one in asked if one not in self.seen]
        columns = (TextColumn("  {task.description:<34}"), BarColumn(), TextColumn("{task.fields[state]}"))
        with Progress(*columns, console=self.out) as bars:
            rows = [(one, bars.add_task(one.label, total=100, state="")) for one in asked]
            self.until(
                lambda: all([self._look(bars, row, one) for one, row in rows]),  # noqa: C419  each bar moves
                lambda: _stuck(asked),
            )

    def until(self, done: Callable[[], bool], told: Callable[[], str]) -> None:
        """Ask again and again; raises DemoFailed with what `told` says when it takes too long."""
        deadline = monotonic() + TASK_SECONDS
        while not done():
            if monotonic() > deadline:
                raise DemoFailed(told())
            sleep(0.1)

    def table(self) -> Table:
        """The tasks that were seen."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("task", "queue", "state", "tries", "waited s", "ran s"):
            table.add_column(
                column, no_wrap=True, justify="right" if column in ("tries", "waited s", "ran s") else "left"
            )
        for asked in self.seen:
            status = asked.status
            waited, ran = _between(status, "accepted_at", "started_at"), _between(status, "started_at", "finished_at")
            table.add_row(status["name"], status["queue"], status["status"], str(status["attempts"]), waited, ran)
        return table

    def _look(self, bars: Progress, row: TaskID, asked: Asked) -> bool:
        asked.status = self.get(f"/tasks/{asked.task_id}")
        state, doing = asked.status["status"], asked.status.get("message") or asked.status.get("waiting_for") or ""
        over = state in OVER
        bars.update(row, completed=asked.status["progress"], state=state if over else f"{state} {doing}")
        return over


def example(*path: str) -> dict[str, Any]:
    """A file of JSON in `examples/`."""
    return json.loads(EXAMPLES.joinpath(*path).read_text("utf-8"))


def _answered(answer: httpx2.Response) -> dict[str, Any]:
    if answer.status_code >= 400:
        problem = answer.json()
        raise DemoFailed(f"{answer.request.method} {answer.request.url.path}: {problem.get('detail', answer.text)}")
    return answer.json()


def _stuck(asked: Iterable[Asked]) -> str:
    waiting = [f"{one.label} is {one.status['status']}" for one in asked if one.status.get("status") not in OVER]
    return f"Not done after {TASK_SECONDS} s: " + ", ".join(waiting) + ". `laneway stats` shows what is wrong."


def _between(status: dict[str, Any], first: str, last: str) -> str:
    if not (status.get(first) and status.get(last)):
        return ""
    return f"{(datetime.fromisoformat(status[last]) - datetime.fromisoformat(status[first])).total_seconds():.2f}"
