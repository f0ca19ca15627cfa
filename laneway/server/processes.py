"""The table of the platform's processes: the command of each, its readiness probe, and how it is stopped.

Procfile and docker-compose.yml start the same processes; a test compares them with this table.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from laneway.platform.application import application
from laneway.platform.queues import WorkerGroup, queues
from laneway.platform.settings import Settings
from laneway.server import flower_login
from laneway.server.probes import Probe, beat_leads_or_waits, broker_answers, http_answers, web_address, worker_reports
from laneway.server.valkey import embedded_argv
from laneway.server.worker_end import note_end_of_worker


@dataclass(frozen=True)
class StopPlan:
    """How a process is stopped: SIGTERM, time to finish, then force."""

    rank: int
    """Processes of a lower rank have ended before those of a higher rank are signalled."""
    seconds: float = 10
    """Time to finish after SIGTERM."""
    hurried_seconds: float = 2
    """Time to finish after a second Ctrl-C."""
    before_kill: signal.Signals | None = None
    """A signal to send before SIGKILL; the process then has `supervisor.LAST_SECONDS` to end."""


@dataclass(frozen=True)
class ManagedProcess:
    """One process of the platform. The first word of `argv` is a program next to this Python, or on PATH."""

    name: str
    argv: tuple[str, ...]
    ready: Probe
    stopping: StopPlan
    address: str = ""
    ready_seconds: float = 60
    """Time to become ready at the first start."""
    runs_code: bool = False
    """Whether it runs the project's code, so that a change of the code restarts it (`laneway up --reload`)."""
    on_death: Callable[[str], None] | None = None
    """Called, in a thread, with the words that say how it ended when nobody had stopped it."""
    probe_port: int | None = None
    """Its port for probes; None: it answers none."""


def broker(settings: Settings) -> ManagedProcess | None:
    """The embedded Valkey, or None when the settings name a server. Raises NoValkeyBinary."""
    if settings.redis.external:
        return None
    folder = settings.storage.folder / "valkey"
    return ManagedProcess(
        "broker",
        tuple(embedded_argv(settings)),  # `laneway broker` executes the same, but takes longer to start
        broker_answers(settings),
        StopPlan(5, seconds=30, hurried_seconds=30),
        f"redis://{settings.redis.host}:{settings.redis.port} (data in {folder})",
    )


def processes(settings: Settings, *, workers: Sequence[WorkerGroup] | None = None) -> list[ManagedProcess]:
    """All processes except the broker, in the order of their start. Each needs the broker and the database.

    `workers`: the worker groups, if not those that the application declares.
    """
    celery_processes = [
        *(_worker(settings, group) for group in workers or worker_groups()),
        ManagedProcess("beat", celery("beat"), beat_leads_or_waits(settings), StopPlan(2), runs_code=True),
    ]
    return [
        *(_with_probes(process, settings, number) for number, process in enumerate(celery_processes)),
        _api(settings),
        _flower(settings),
    ]


def _with_probes(process: ManagedProcess, settings: Settings, number: int) -> ManagedProcess:
    """The process with a port of its own for probes, if there are probes: `PROBE_PORT` and the next ones."""
    port = settings.probes.port
    return process if port is None else replace(process, probe_port=port + number)


def program(name: str) -> str:
    """The full path of a program that is installed next to this Python; otherwise the bare name."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def worker_groups() -> tuple[WorkerGroup, ...]:
    """The worker groups that the application declares."""
    application().declare_queues()
    return queues.workers


def worker_group(name: str) -> WorkerGroup:
    """The worker group of this name. Raises ConfigError."""
    application().declare_queues()
    return queues.worker(name)


def celery(*words: str) -> tuple[str, ...]:
    """A `celery` command on the application, without Celery's banner, which would hide the lines of `laneway up`."""
    return ("celery", "-q", "-A", application().celery, *words)


def worker_command(settings: Settings, group: WorkerGroup) -> tuple[str, ...]:
    """The `celery worker` command of a worker group."""
    concurrency = group.concurrency or settings.operation.worker_concurrency
    return celery("worker", "-n", f"{group.name}@%h", "-Q", ",".join(group.queues), "-c", str(concurrency))


def _worker(settings: Settings, group: WorkerGroup) -> ManagedProcess:
    return ManagedProcess(
        group.name,
        worker_command(settings, group),
        worker_reports(settings, f"{group.name}@%h"),
        StopPlan(4, seconds=60, hurried_seconds=0, before_kill=signal.SIGQUIT),
        runs_code=True,
        on_death=note_end_of_worker(settings, f"{group.name}@%h"),
    )


LIMITED = ("--http", "laneway.api.limited_protocol:LimitedProtocol")
"""The option of uvicorn that limits connections, and the time in which a request must arrive."""


def _api(settings: Settings) -> ManagedProcess:
    host, port = settings.api.host, settings.api.port
    listen = ("--host", host, "--port", str(port))
    return ManagedProcess(
        "api",
        (
            "uvicorn",
            application().api,
            *listen,
            *LIMITED,
            "--timeout-graceful-shutdown",
            "10",
            "--no-access-log",
            "--no-server-header",
            "--no-proxy-headers",
        ),
        http_answers(host, port, "/health/ready"),
        StopPlan(1, seconds=15),
        web_address(host, port),
        runs_code=True,
    )


def _flower(settings: Settings) -> ManagedProcess:
    host, port = settings.api.flower_host, settings.api.flower_port
    return ManagedProcess(
        "flower",
        celery("flower"),
        http_answers(host, port, "/healthcheck"),
        StopPlan(3),
        f"{web_address(host, port)} ({flower_login.login_hint(settings)})",
    )
