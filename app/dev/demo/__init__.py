"""`laneway demo`: real work through the running platform, shown as it goes. Starts a platform if none runs."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Final

import httpx2
from rich.console import Console

from app.core.config import Settings
from app.core.queues import QUEUES
from app.dev.demo import callbacks, conversations, systems
from app.dev.demo.stage import DemoFailed, Stage
from app.dev.parts import program

READY_SECONDS = 90
SCENES: Final = (
    conversations.ingest, conversations.converse, conversations.webhooks, conversations.report,
    systems.document, callbacks.callbacks, systems.workflow, systems.pipeline, systems.lead,
)  # fmt: skip


def run(settings: Settings, out: Console) -> int:
    """Show the platform at work; the exit code: 0 when every task completed."""
    with _platform(settings, out) as client:
        stage = Stage(settings, client, out)
        for scene in SCENES:
            stage.title((scene.__doc__ or "").rstrip("."))
            scene(stage)
        stage.title("The tasks that ran")
        out.print(stage.table())
        failed = [asked for asked in stage.seen if asked.status["status"] != "completed"]
        out.print(f"{len(stage.seen) - len(failed)} of {len(stage.seen)} tasks completed.", style="bold")
        return 1 if failed else 0


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
    return all(queues.get(name, {}).get("workers") for name in QUEUES)


def _wait_until_ready(client: httpx2.Client, platform: subprocess.Popen[bytes]) -> None:
    deadline = monotonic() + READY_SECONDS
    while not _is_ready(client):
        if platform.poll() is not None:
            said = platform.stderr.read().decode(errors="replace").strip() if platform.stderr else ""
            raise DemoFailed(f"The platform could not be started. {said}")
        if monotonic() > deadline:
            raise DemoFailed(f"The platform was not ready after {READY_SECONDS} s: see `make up`.")
        sleep(0.2)
