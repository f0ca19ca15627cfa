"""The facts about a Celery app: the settings that matter to delivery, and its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, cast

from laneway.adopt.project import Project
from laneway.transport.connection_options import why_unused

PLATFORM_TASK: Final = "laneway.platform.execution.task"
"""The module of the tasks of the platform. They settle their own outcome, whatever Celery's settings say."""
VISIBILITY_TIMEOUT: Final = 3600.0
"""kombu's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """One registered task. Limits are in seconds; None: no limit."""

    name: str
    acks_late: bool = True
    rejects_lost: bool = True
    acks_on_timeout: bool = True
    time_limit: float | None = 600.0
    soft_time_limit: float | None = None
    max_retries: int | None = 3
    is_of_platform: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CeleryFacts:
    """A Celery app. Times are in seconds. The defaults are those of an app without a finding."""

    app: str = "app"
    on_redis: bool = True
    on_engine: bool = True
    is_installed: bool = True
    """Whether `laneway.install` was called, or only the transport is set."""
    is_platform: bool = False
    prefetch_multiplier: int = 1
    accepted: tuple[str, ...] = ("application/json",)
    results_accepted: tuple[str, ...] = ()
    task_serializer: str = "json"
    result_serializer: str = "json"
    result_backend: str = "redis"
    """Its scheme; empty: results are not stored."""
    result_expires: float | None = 86_400.0
    time_limit: float | None = 600.0
    soft_time_limit: float | None = 300.0
    always_eager: bool = False
    visibility_timeout: float = VISIBILITY_TIMEOUT
    pool: str = "prefork"
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None
    """KiB."""
    reconnects: bool = True
    reconnect_attempts: int | None = None
    """None: without end."""
    kills_on_connection_loss: bool = False
    remote_control: bool = True
    creates_missing_queues: bool = False
    declared_queues: int = 0
    protocol: int = 2
    uses_utc: bool = True
    beat_entries: int = 0
    beat_scheduler: str = ""
    unused_options: Mapping[str, str] | None = None
    """Transport option → why it has no effect."""
    tasks: tuple[TaskFacts, ...] = ()

    @property
    def plain_tasks(self) -> tuple[TaskFacts, ...]:
        """The tasks that Celery's settings apply to."""
        return tuple(task for task in self.tasks if not task.is_of_platform)


def collect_celery(project: Project, *, is_platform: bool) -> CeleryFacts:
    """Read an app, whose tasks are imported."""
    app, conf = project.app, project.conf
    options = project.options
    return CeleryFacts(
        app=str(app.main or "app"),
        on_redis=project.is_on_redis,
        on_engine=project.is_installed,
        is_installed=project.is_installed and "laneway" in _module(app.Task.Request),
        is_platform=is_platform,
        prefetch_multiplier=int(conf.worker_prefetch_multiplier),
        accepted=tuple(sorted(project.accepted)),
        results_accepted=tuple(str(each) for each in cast("Iterable[object]", conf.result_accept_content or ())),
        task_serializer=str(conf.task_serializer),
        result_serializer=str(conf.result_serializer),
        result_backend=_scheme(app.backend_cls or conf.result_backend),
        result_expires=_seconds(conf.result_expires),
        time_limit=_seconds(conf.task_time_limit),
        soft_time_limit=_seconds(conf.task_soft_time_limit),
        always_eager=bool(conf.task_always_eager),
        visibility_timeout=float(options.get("visibility_timeout") or VISIBILITY_TIMEOUT),
        pool=str(conf.worker_pool),
        max_tasks_per_child=conf.worker_max_tasks_per_child,
        max_memory_per_child=conf.worker_max_memory_per_child,
        reconnects=bool(conf.broker_connection_retry),
        reconnect_attempts=conf.broker_connection_max_retries or None,
        kills_on_connection_loss=bool(conf.worker_cancel_long_running_tasks_on_connection_loss),
        remote_control=bool(conf.worker_enable_remote_control),
        creates_missing_queues=bool(conf.task_create_missing_queues),
        declared_queues=len(conf.task_queues or ()),
        protocol=int(conf.task_protocol),
        uses_utc=bool(conf.enable_utc),
        beat_entries=len(conf.beat_schedule or ()),
        beat_scheduler=str(conf.beat_scheduler),
        unused_options=_unused(options) if project.is_installed else {},
        tasks=tuple(_task(task) for name, task in sorted(app.tasks.items()) if not name.startswith("celery.")),
    )


def _task(task: Any) -> TaskFacts:
    conf = task.app.conf
    return TaskFacts(
        name=str(task.name),
        acks_late=bool(task.acks_late),
        rejects_lost=bool(task.reject_on_worker_lost or getattr(task, "retry_on_worker_lost", False)),
        acks_on_timeout=getattr(task, "acks_on_timeout", None) is not False,
        time_limit=_seconds(task.time_limit or conf.task_time_limit),
        soft_time_limit=_seconds(task.soft_time_limit or conf.task_soft_time_limit),
        max_retries=task.max_retries,
        is_of_platform=any(base.__module__ == PLATFORM_TASK for base in type(task).__mro__),
    )


def _unused(options: Mapping[str, Any]) -> dict[str, str]:
    return {name: why for name in sorted(options) if (why := why_unused(name))}


def _module(value: object) -> str:
    """The module of a class, or the text that names it."""
    return value if isinstance(value, str) else str(getattr(value, "__module__", ""))


def _scheme(backend: object) -> str:
    """The scheme of a result backend, without the prefix of the engine; empty for none."""
    if not backend:
        return ""
    text = str(backend).partition("://")[0]
    return "" if text.startswith("disabled") else text.rpartition("+")[2]


def _seconds(value: object) -> float | None:
    """Seconds of a setting that is a number or a timedelta. None and 0: no limit."""
    if isinstance(value, timedelta):
        return value.total_seconds() or None
    return float(value) or None if isinstance(value, int | float) else None
