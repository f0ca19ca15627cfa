"""`laneway demo`: real work through the running platform, shown as it runs. Starts a platform if none runs."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Final

import httpx2
from rich.console import Console

from app.core.celery_app import celery_app
from app.core.queues import QUEUES
from app.core.settings import Settings
from app.demo import conversations, outbound_webhooks, systems
from app.demo.scenario import DemoFailed, Scenario
from app.services.container import Services
from laneway.platform.access.own_credential import own_credential
from laneway.platform.access.scopes import Scope
from laneway.platform.db.migrate import upgrade
from laneway.server.processes import program

READY_SECONDS = 90
WORKERS_SECONDS = 20
"""How long a running platform may lack a worker: it may have just been started."""
SCENES: Final = (
    conversations.ingest,
    conversations.converse,
    conversations.webhooks,
    conversations.report,
    systems.document,
    outbound_webhooks.outbound_webhooks,
    systems.workflow,
    systems.pipeline,
    systems.lead,
)


def run(settings: Settings, out: Console) -> int:
    """Run the demo; returns the exit code, 0 if every task completed."""
    with _platform(settings, out) as client:
        scenario = Scenario(settings, client, out)
        for scene in SCENES:
            scenario.title((scene.__doc__ or "").rstrip("."))
            scene(scenario)
        scenario.title("The tasks that ran")
        out.print(scenario.task_table())
        failed = [task for task in scenario.tasks if task.status["status"] != "completed"]
        out.print(f"{len(scenario.tasks) - len(failed)} of {len(scenario.tasks)} tasks completed.", style="bold")
        return 1 if failed else 0


@contextmanager
def _platform(settings: Settings, out: Console) -> Generator[httpx2.Client]:
    """A client of the running platform. If none runs, one is started and stopped afterwards."""
    host = "127.0.0.1" if settings.api.host in ("0.0.0.0", "::") else settings.api.host  # noqa: S104  compared only
    upgrade(settings.storage.url, Services.migrations)
    address = f"http://{host}:{settings.api.port}"
    with (
        own_credential(settings, "demo", Scope.ADMIN) as headers,
        httpx2.Client(base_url=address, headers=headers, timeout=30, trust_env=False) as client,
    ):
        if _unserved_queues(client) is not None:
            name_platform(settings, client, out)
            _wait_for_workers(client)
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


def name_platform(settings: Settings, client: httpx2.Client, out: Console) -> None:
    """Say which platform answers. Raises DemoFailed if it is another installation than that of these settings."""
    upgrade(settings.storage.url, Services.migrations)
    services = Services(settings, celery_app)
    try:
        own, found = services.installation.id, _installation(client)
    finally:
        services.close()
    if found != own:
        raise DemoFailed(
            f"The platform at {client.base_url} is another installation ({found}) than the one of these settings "
            f"({own}, {services.database.url.render_as_string()}). Set API_PORT to the port of your own platform, or "
            "to a free one: set REDIS_PORT and FLOWER_PORT as well then, and the demo starts a platform of its own."
        )
    out.print(f"The platform at {client.base_url}, installation {own}.")


def _installation(client: httpx2.Client) -> str | None:
    """The id of the platform that answers; None if it does not say."""
    try:
        return client.get("/health/ready").json().get("installation")
    except (httpx2.HTTPError, ValueError, AttributeError):
        return None


def _unserved_queues(client: httpx2.Client) -> list[str] | None:
    """The queues that no worker serves; None if no platform answers."""
    try:
        response = client.get("/conversations/tasks/queues/status")
        queues: dict[str, dict[str, int]] = response.json()["queues"]
    except (httpx2.HTTPError, ValueError, LookupError, TypeError):
        return None
    return [name for name in QUEUES if not queues.get(name, {}).get("workers")]


def _wait_for_workers(client: httpx2.Client) -> None:
    deadline = monotonic() + WORKERS_SECONDS
    while (unserved := _unserved_queues(client)) != []:
        if monotonic() > deadline:
            missing = ", ".join(unserved) if unserved else "any queue"
            raise DemoFailed(
                f"The platform at {client.base_url} has no worker for {missing}: see `laneway worker --help`."
            )
        sleep(0.2)


def _wait_until_ready(client: httpx2.Client, platform: subprocess.Popen[bytes]) -> None:
    deadline = monotonic() + READY_SECONDS
    while _unserved_queues(client) != []:
        if platform.poll() is not None:
            errors = platform.stderr.read().decode(errors="replace").strip() if platform.stderr else ""
            raise DemoFailed(f"The platform could not be started. {errors}")
        if monotonic() > deadline:
            raise DemoFailed(f"The platform was not ready after {READY_SECONDS} s: see `make up`.")
        sleep(0.2)
