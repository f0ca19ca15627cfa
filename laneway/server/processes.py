"""The platform's parts, in one table: what is run, how it shows that it is ready, and how it is stopped.

Procfile and docker-compose.yml start the same parts with the same commands; a test compares them with this table.
"""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from laneway.platform.application import application
from laneway.platform.queues import WorkerGroup, queues
from laneway.platform.settings import Settings
from laneway.server import flower_login
from laneway.server.probes import Probe, address, beat_holds_lock, broker_answers, http_answers, worker_reports
from laneway.server.valkey import embedded_argv


@dataclass(frozen=True)
class Stopping:
    """How a part is stopped: SIGTERM, time to finish, then force."""

    rank: int
    """Lower ranks are stopped, and gone, before higher ones are asked."""
    seconds: float = 10
    """How long it may take by itself."""
    hurried_seconds: float = 2
    """The same after a second Ctrl-C."""
    before_kill: signal.Signals | None = None
    """A signal to send before SIGKILL, with `LAST_SECONDS` to obey it."""


@dataclass(frozen=True)
class Part:
    """One process of the platform. The first word of `argv` is a program beside our Python, or on PATH."""

    name: str
    argv: tuple[str, ...]
    ready: Probe
    stopping: Stopping
    address: str = ""
    ready_seconds: float = 60
    """How long it may take until it is ready at the first start."""


def broker(settings: Settings) -> Part | None:
    """The embedded Valkey; None when the settings name a server. Raises NoValkeyBinary."""
    if settings.redis.external:
        return None
    where = f"redis://{settings.redis.host}:{settings.redis.port} (data in {settings.storage.folder / 'valkey'})"
    # Not `laneway broker`, which becomes the same command: this way it starts in a tenth of a second.
    return Part("broker", tuple(embedded_argv(settings)), broker_answers(settings), Stopping(5, 30, 30), where)


def parts(settings: Settings) -> list[Part]:
    """All parts but the broker, in the order in which they are started; each needs broker and database."""
    api, flower = settings.api, (settings.api.flower_host, settings.api.flower_port)
    return [
        *(_worker(settings, group) for group in worker_groups()),
        Part("beat", celery("beat"), beat_holds_lock(settings), Stopping(2)),
        Part(
            "api",
            _uvicorn(settings),
            http_answers(api.host, api.port, "/health/ready"),
            Stopping(1, 15),
            address(api.host, api.port),
        ),
        Part(
            "flower",
            celery("flower"),
            http_answers(*flower, "/healthcheck"),
            Stopping(3),
            f"{address(*flower)} ({flower_login.where(settings)})",
        ),
    ]


def program(name: str) -> str:
    """The full path of a program that is installed with this one; its bare name if it is not."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def worker_groups() -> tuple[WorkerGroup, ...]:
    """The workers that the application declared."""
    application().declare_queues()
    return queues.workers


def worker_group(name: str) -> WorkerGroup:
    """One of them. Raises ConfigError."""
    application().declare_queues()
    return queues.worker(name)


def celery(*words: str) -> tuple[str, ...]:
    """A command of Celery's on the application, without the banner, which would bury what is said here."""
    return ("celery", "-q", "-A", application().celery, *words)


def worker_command(settings: Settings, group: WorkerGroup) -> tuple[str, ...]:
    """Celery's command that starts a worker of a group."""
    concurrency = group.concurrency or settings.operation.worker_concurrency
    return celery("worker", "-n", f"{group.name}@%h", "-Q", ",".join(group.queues), "-c", str(concurrency))


def _worker(settings: Settings, group: WorkerGroup) -> Part:
    stopping = Stopping(4, seconds=60, hurried_seconds=0, before_kill=signal.SIGQUIT)
    return Part(group.name, worker_command(settings, group), worker_reports(settings, f"{group.name}@%h"), stopping)


def _uvicorn(settings: Settings) -> tuple[str, ...]:
    listen = ("--host", settings.api.host, "--port", str(settings.api.port))
    return ("uvicorn", application().api, *listen, "--timeout-graceful-shutdown", "10", "--no-access-log")
