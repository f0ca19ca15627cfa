"""`laneway demo`: real work through the running platform, shown as it goes. Starts a platform if none runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import httpx2
from pydantic import SecretStr
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from app.core.config import ROOT, Settings
from app.core.errors import PlatformError
from app.db.migrate import upgrade
from app.db.session import Database
from app.dev import webhook_secrets
from app.dev.parts import program
from app.services.knowledge import Knowledge
from app.services.signing import sign_hub

EXAMPLES = ROOT / "examples"
QUESTIONS = (
    "Hello! How long do I have to return a bicycle?",
    "And what condition does it have to be in?",
    "How long does the warranty on the battery last?",
    "Do you also sell sailing boats?",
)
OVER = {"completed", "failed", "dead_letter", "cancelled"}
READY_SECONDS, TASK_SECONDS = 90, 120


class DemoFailed(PlatformError):
    """The platform did not do what the demo asked of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def run(settings: Settings, out: Console) -> int:
    """Show the platform at work; the exit code: 0 when every task completed."""
    with _platform(settings, out) as client:
        return Demo(settings, client, out).run()


@dataclass(slots=True)
class Asked:
    """A task that the demo waits for."""

    label: str
    task_id: str
    status: dict[str, Any] = field(default_factory=dict[str, Any])


class Demo:
    """One walk through the main system."""

    def __init__(self, settings: Settings, client: httpx2.Client, out: Console) -> None:
        self._settings, self._client, self._out = settings, client, out
        self._mark = uuid4().hex[:8]
        self._secrets = webhook_secrets.for_development(settings)
        self._seen: list[Asked] = []

    def run(self) -> int:
        """All steps, then the table of what ran."""
        self._step("Documents that replies may cite")
        self._ingest()
        self._step("A conversation of several turns, sent at once and answered in order")
        self._converse()
        self._step("A signed Facebook page message and a Google lead form")
        self._webhooks()
        self._step("The analytics report")
        self._report()
        self._step("The tasks that ran")
        self._out.print(self._table())
        failed = [asked for asked in self._seen if asked.status["status"] != "completed"]
        self._out.print(f"{len(self._seen) - len(failed)} of {len(self._seen)} tasks completed.", style="bold")
        return 1 if failed else 0

    def _ingest(self) -> None:
        upgrade(self._settings.storage.url)
        database = Database(self._settings.storage.url)
        knowledge = Knowledge(database)
        for path in sorted((EXAMPLES / "documents").glob("*.md")):
            found = knowledge.ingest_file(path)
            self._out.print(
                f"  {found.title}: {found.passage_count} passages" + ("" if found.changed else " (known already)")
            )
        database.close()

    def _converse(self) -> None:
        conversation = f"demo-{self._mark}"
        asked = [self._ask(conversation, number, text) for number, text in enumerate(QUESTIONS, 1)]
        self._wait(asked)
        self._show(conversation)

    def _ask(self, conversation: str, number: int, text: str) -> Asked:
        body = {"conversation_id": conversation, "text": text, "message_id": f"turn-{number}"}
        answer = self._post("/conversations/message", json=body)
        return Asked(f"turn {number}", answer["task_id"])

    def _webhooks(self) -> None:
        facebook, google = self._facebook(), self._google()
        deliveries = [Asked("Facebook page message", facebook["task_id"]), Asked("Google lead form", google["task_id"])]
        self._wait(deliveries)
        follow_ups = [Asked(f"reply to {asked.label}", task) for asked in deliveries for task in _queued_by(asked)]
        self._wait(follow_ups)
        for asked in follow_ups:
            self._show(asked.status["key"].removeprefix("conversation_id:"))

    def _facebook(self) -> dict[str, Any]:
        event = _example("facebook_page_message.json")
        event["entry"][0]["messaging"][0]["message"]["mid"] += self._mark
        body = json.dumps(event).encode()
        signature = sign_hub(body, self._secret("FACEBOOK_APP_SECRET", self._settings.webhooks.facebook_app_secret))
        headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json"}
        return self._post("/webhooks/facebook", content=body, headers=headers)

    def _google(self) -> dict[str, Any]:
        key = self._secret("GOOGLE_LEAD_KEY", self._settings.webhooks.google_lead_key)
        lead = _example("google_lead_form.json")
        lead |= {"google_key": key.get_secret_value(), "is_test": False, "lead_id": f"{lead['lead_id']}{self._mark}"}
        return self._post("/webhooks/google", json=lead)

    def _secret(self, name: str, given: SecretStr | None) -> SecretStr:
        if given is None and name not in self._secrets:
            raise DemoFailed(f"The demo needs {name}, which is not set.")
        return given or SecretStr(self._secrets[name])

    def _report(self) -> None:
        handle = self._post("/analytics/reports", json={"kind": "conversations", "hours": 24})
        asked = Asked("conversation analytics", handle["task_id"])
        self._wait([asked])
        report = self._get(f"/analytics/reports/{handle['task_id']}")
        self._out.print_json(data=report["data"])

    def _wait(self, asked: list[Asked]) -> None:
        """Follow the tasks until all are over, with a live bar for each."""
        self._seen += asked
        columns = (TextColumn("  {task.description:<34}"), BarColumn(), TextColumn("{task.fields[state]}"))
        with Progress(*columns, console=self._out) as bars:
            rows = [(one, bars.add_task(one.label, total=100, state="")) for one in asked]
            deadline = monotonic() + TASK_SECONDS
            while not all([self._look(bars, row, one) for one, row in rows]):  # noqa: C419  each bar moves each time
                if monotonic() > deadline:
                    raise DemoFailed(_stuck(asked))
                sleep(0.1)

    def _look(self, bars: Progress, row: TaskID, asked: Asked) -> bool:
        asked.status = self._get(f"/conversations/tasks/{asked.task_id}/status")
        state, doing = asked.status["status"], asked.status.get("message") or asked.status.get("waiting_for") or ""
        over = state in OVER
        bars.update(row, completed=asked.status["progress"], state=state if over else f"{state} {doing}")
        return over

    def _show(self, conversation: str) -> None:
        for turn in self._get(f"/conversations/{conversation}")["messages"]:
            said = Text(turn["text"])
            for number, source in enumerate(turn["sources"], 1):
                said.append(f"\n[{number}] {source['document_id']}, passage {source['position'] + 1}", style="dim")
            style = "white" if turn["role"] == "customer" else "green"
            self._out.print(Panel(said, title=turn["role"], title_align="left", border_style=style))

    def _table(self) -> Table:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("task", "queue", "state", "tries", "waited s", "ran s"):
            table.add_column(
                column, no_wrap=True, justify="right" if column in ("tries", "waited s", "ran s") else "left"
            )
        for asked in self._seen:
            status = asked.status
            waited, ran = _between(status, "accepted_at", "started_at"), _between(status, "started_at", "finished_at")
            table.add_row(status["name"], status["queue"], status["status"], str(status["attempts"]), waited, ran)
        return table

    def _step(self, title: str) -> None:
        self._out.print()
        self._out.rule(Text(title, style="bold"), align="left")

    def _post(self, path: str, **request: Any) -> dict[str, Any]:
        return _answered(self._client.post(path, **request))

    def _get(self, path: str) -> dict[str, Any]:
        return _answered(self._client.get(path))


@contextmanager
def _platform(settings: Settings, out: Console) -> Generator[httpx2.Client]:
    """A client of the running platform; one is started, and stopped afterwards, if none runs."""
    host = "127.0.0.1" if settings.api.host in ("0.0.0.0", "::") else settings.api.host  # noqa: S104  compared only
    with httpx2.Client(base_url=f"http://{host}:{settings.api.port}", timeout=30, trust_env=False) as client:
        if _is_ready(client):
            yield client
            return
        out.print("No platform runs here: starting one for the demo.")
        platform = subprocess.Popen([program("laneway"), "up"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603
        try:
            _wait_until_ready(client, platform)
            yield client
        finally:
            out.print("Stopping the platform that was started for the demo.")
            platform.terminate()
            platform.wait()


def _is_ready(client: httpx2.Client) -> bool:
    """Whether the API answers and every queue that the demo needs is served."""
    try:
        answer = client.get("/conversations/tasks/queues/status")
    except httpx2.HTTPError:
        return False
    queues: dict[str, dict[str, int]] = answer.json().get("queues", {}) if answer.status_code == 200 else {}
    return all(queues.get(name, {}).get("workers") for name in ("conversations", "webhooks", "analytics"))


def _wait_until_ready(client: httpx2.Client, platform: subprocess.Popen[bytes]) -> None:
    deadline = monotonic() + READY_SECONDS
    while not _is_ready(client):
        if platform.poll() is not None:
            said = platform.stderr.read().decode(errors="replace").strip() if platform.stderr else ""
            raise DemoFailed(f"The platform could not be started. {said}")
        if monotonic() > deadline:
            raise DemoFailed(f"The platform was not ready after {READY_SECONDS} s: see `make up`.")
        sleep(0.2)


def _queued_by(asked: Asked) -> list[str]:
    result: dict[str, Any] = asked.status.get("result") or {}
    return result.get("tasks", [])


def _answered(answer: httpx2.Response) -> dict[str, Any]:
    if answer.status_code >= 400:
        problem = answer.json()
        raise DemoFailed(f"{answer.request.method} {answer.request.url.path}: {problem.get('detail', answer.text)}")
    return answer.json()


def _example(name: str) -> dict[str, Any]:
    return json.loads((EXAMPLES / "webhooks" / name).read_text("utf-8"))


def _stuck(asked: Iterable[Asked]) -> str:
    waiting = [f"{one.label} is {one.status['status']}" for one in asked if one.status.get("status") not in OVER]
    return f"Not done after {TASK_SECONDS} s: " + ", ".join(waiting) + ". `laneway stats` shows what is wrong."


def _between(status: dict[str, Any], first: str, last: str) -> str:
    if not (status.get(first) and status.get(last)):
        return ""
    return f"{(datetime.fromisoformat(status[last]) - datetime.fromisoformat(status[first])).total_seconds():.2f}"
