"""Says of each setting of a Celery project that matters what Laneway does with it, and what to edit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from laneway.adopt.project import Project
from laneway.installation import shown
from laneway.transport.connection_options import why_unused

LINE: Final = "laneway.install(app, zero_goes_first=True)"
"""The line that puts a project on Redis onto the engine. Priorities go on to count as in kombu's Redis transport."""


FOR_GOOD: Final = "if you will not go back"


class Effect(StrEnum):
    """What becomes of a setting."""

    SAME = "stays"
    CHANGED = "changes"
    UNUSED = "no effect"
    IMPOSSIBLE = "does not work"


@dataclass(frozen=True, slots=True)
class Row:
    """A setting, its value without passwords, and what to know of it. `edit`: what to change, or nothing."""

    setting: str
    value: str
    effect: Effect
    meaning: str
    edit: str = ""


def review(project: Project) -> list[Row]:
    """All rows, those of the broker first."""
    return [row for part in _PARTS for row in part(project)]


def _broker(project: Project) -> Iterator[Row]:
    value = shown("broker_url", project.broker_url)
    if not project.is_on_redis:
        yield Row(
            "broker_url",
            value,
            Effect.IMPOSSIBLE,
            "the engine needs Redis 6.2 or newer, or Valkey; messages of this broker cannot be moved",
            "set a Redis or Valkey address for producers and new workers; stop the old workers when their queues "
            "are empty",
        )
    elif project.options.get("cluster") or "cluster" in project.scheme:
        yield Row("broker_url", value, Effect.IMPOSSIBLE, "a Redis Cluster cannot serve a worker of several queues")
    elif project.is_installed:
        yield Row("broker_url", value, Effect.SAME, "the app is on the engine already")
    else:
        yield Row("broker_url", value, Effect.SAME, "the engine uses keys of its own in the same database", LINE)
    if project.scheme == "sentinel" and not project.options.get("master_name"):
        yield Row("master_name", "", Effect.IMPOSSIBLE, "sentinel:// needs it", "set it in broker_transport_options")


def _results(project: Project) -> Iterator[Row]:
    value = project.app.backend_cls or project.conf.result_backend
    text = shown("result_backend", value)
    if not value:
        yield Row("result_backend", "", Effect.SAME, "no results are stored")
    elif not isinstance(value, str):
        yield Row("result_backend", text, Effect.SAME, "your own backend is kept")
    elif value.startswith(("redis", "rediss", "sentinel", "laneway")):
        yield Row("result_backend", text, Effect.SAME, "same keys and payloads: old results and chords stay readable")
    elif value.startswith("rpc"):
        yield Row(
            "result_backend",
            text,
            Effect.CHANGED,
            "replies through the broker; waiting clients of the old broker get none",
            "use a Redis or Valkey address",
        )
    else:
        yield Row("result_backend", text, Effect.SAME, "kept; results are not committed in groups")
    yield Row("result_expires", str(project.conf.result_expires), Effect.SAME, "as before")


def _execution(project: Project) -> Iterator[Row]:
    conf = project.conf
    late = bool(conf.task_acks_late)
    meaning = (
        "a task whose worker dies runs again after the lease, 30 s" if late else "a task whose worker dies is lost"
    )
    edit = "" if late else "app.conf.task_acks_late = True, if tasks may run again"
    yield Row("task_acks_late", str(late), Effect.CHANGED if late else Effect.SAME, meaning, edit)
    limits = f"{conf.task_soft_time_limit}, {conf.task_time_limit}"
    yield Row("task_(soft_)time_limit", limits, Effect.SAME, "as before")
    pool = str(conf.worker_pool)
    engine_pool = pool in {"prefork", "processes"} or "laneway" in pool or pool.endswith("prefork:TaskPool")
    yield Row(
        "worker_pool",
        pool,
        Effect.CHANGED if engine_pool else Effect.SAME,
        "the engine's prefork pool, with the same options" if engine_pool else "kept",
    )
    yield Row(
        "worker_prefetch_multiplier",
        str(conf.worker_prefetch_multiplier),
        Effect.SAME,
        "as before; tasks with an ETA wait in the broker and take no room in a worker",
    )


def _serializers(project: Project) -> Iterator[Row]:
    conf = project.conf
    value = f"{conf.task_serializer}, accept_content {sorted(map(str, conf.accept_content or ()))}"
    if "pickle" in value:
        yield Row(
            "task_serializer",
            value,
            Effect.SAME,
            "pickle works on the engine; the platform takes JSON alone",
            "for the platform: send JSON",
        )
    else:
        yield Row("task_serializer", value, Effect.SAME, "as before")
    if conf.task_protocol == 1:
        yield Row(
            "task_protocol",
            "1",
            Effect.CHANGED,
            "messages of protocol 1 are left in their lists",
            "remove it, and let the old workers run what they have",
        )


def _queues(project: Project) -> Iterator[Row]:
    conf, declared = project.conf, sorted(project.declared)
    yield Row("task_queues", ", ".join(declared)[:200], Effect.SAME, "names, routes and exchanges stay")
    headers = [str(queue.name) for queue in project.app.amqp.queues.values() if _exchange_type(queue) == "headers"]
    if headers:
        yield Row(
            "task_queues", ", ".join(headers), Effect.IMPOSSIBLE, "exchanges of type headers", "use direct or topic"
        )
    if conf.task_create_missing_queues:
        yield Row(
            "task_create_missing_queues",
            "True",
            Effect.SAME,
            "a misspelt queue is created, and no worker reads it; the platform refuses it",
            "app.conf.task_create_missing_queues = False, if all queues are in task_queues",
        )
    else:
        yield Row("task_create_missing_queues", "False", Effect.SAME, "as before")
    if conf.task_queue_max_priority:
        yield Row(
            "task_queue_max_priority",
            str(conf.task_queue_max_priority),
            Effect.UNUSED,
            "each queue has the ten priorities 0 to 9",
        )


def _options(project: Project) -> Iterator[Row]:
    yield Row(
        "priorities",
        f"steps {list(project.layout.steps)}",
        Effect.CHANGED,
        "ten priorities instead of the steps; with zero_goes_first 0 goes first, as before",
        "" if project.is_installed else LINE,
    )
    for name in sorted(project.options):
        value, why = shown(name, project.options[name]), why_unused(name)
        if name == "global_keyprefix":
            yield Row(name, value, Effect.SAME, "comes before the engine's keys, too")
        elif why:
            yield Row(
                name,
                value,
                Effect.UNUSED,
                why,
                f"remove {name!r} from broker_transport_options when you will not go back",
            )
        else:
            yield Row(name, value, Effect.SAME, "as before")
    channels = "old and new workers have channels of their own: `inspect` reaches those of its own transport"
    yield Row("control, events", "", Effect.CHANGED, channels)


def _beat(project: Project) -> Iterator[Row]:
    schedule: Any = project.conf.beat_schedule or {}
    scheduler = str(project.conf.beat_scheduler)
    yield Row(
        "beat_schedule",
        f"{len(schedule)} entries, {scheduler}",
        Effect.SAME,
        "Beat and its stored schedule go on; run one Beat at a time",
        "in [tool.laneway] for the platform: `schedules`" if schedule else "",
    )


def _exchange_type(queue: Any) -> str:
    return str(getattr(getattr(queue, "exchange", None), "type", ""))


_PARTS: Final[tuple[Callable[[Project], Iterator[Row]], ...]] = (
    _broker,
    _results,
    _options,
    _queues,
    _execution,
    _serializers,
    _beat,
)
