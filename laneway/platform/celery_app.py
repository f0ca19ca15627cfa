"""The Celery app of an application, configured from its settings, its queues and its schedules."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from celery import Celery
from celery.signals import import_modules, setup_logging, worker_init
from kombu.entity import Exchange, Queue

from laneway._masking import masked
from laneway.installation import install
from laneway.platform.errors import ConfigError
from laneway.platform.importing import import_module
from laneway.platform.library_schedules import canary_schedules
from laneway.platform.logging import configure_logging, logger
from laneway.platform.queues import LANE_CLASSES, queues
from laneway.platform.registry import registry
from laneway.platform.schedules.entry import Schedule, check_schedules
from laneway.platform.sealing import KeysMissing
from laneway.platform.settings import Settings, settings_warnings
from laneway.platform.signing_check import check_signing
from laneway.platform.submission.routes import TaskRoutes
from laneway.platform.submission.sealing_producer import seal_calls, seals_calls
from laneway.worker.hand_on import SETTING as HAND_ON_SETTING
from laneway.worker.masking import mask_settings

log = logger(__name__)

WORKER_MODULES: Final = ("laneway.platform.execution.worker_signals", "laneway.platform.probes.canary_task")
"""Modules that a worker imports in addition to the tasks of the application."""
TASK_MODULES: Final = "The list of task modules"
PRIORITY_STEPS: Final = (0, 3, 6, 9)
"""Priorities in kombu's Redis transport, where 0 goes first."""
SIGNING_SERIALIZER: Final = "auth"
"""Celery's serializer that signs with the private key of a certificate (`app.setup_security()`)."""
VISIBILITY_TIMEOUT = 3600
"""Seconds after which kombu's Redis transport delivers an unacknowledged message again; more than a task may run."""


def make_celery(
    name: str, settings: Settings, *, tasks: Sequence[str] = (), schedules: Iterable[Schedule] = ()
) -> Celery:
    """Make a Celery app with these settings.

    `tasks`: the modules that register tasks; `load_tasks` and workers import them. `schedules`: what Beat submits.
    """
    return configure_celery(Celery(name), settings, tasks=tasks, schedules=schedules)


def configure_celery(
    app: Celery,
    settings: Settings,
    *,
    tasks: Sequence[str] = (),
    schedules: Iterable[Schedule] = (),
    named_by: str = TASK_MODULES,
) -> Celery:
    """Configure a Celery app for the platform; returns it. Its own routes and schedules stay in force after ours.

    `named_by`: what names the modules of tasks, for errors. Raises ConfigError for an app with another broker, and when
    no queue is declared.
    """
    if not queues:
        raise ConfigError("No queue is declared: call declare_queues before the Celery app is made.")
    mask_settings()
    _check_broker(app, settings)
    declared = _declarations[app] = _Declarations(tuple(tasks), tuple(schedules), named_by, settings)
    own_serializers = _own_serializers(app)
    own_routes, own_schedule = _as_routes(app.conf.task_routes), dict(app.conf.beat_schedule or {})
    entries = (*declared.schedules, *canary_schedules(settings.probes.canary_seconds))
    app.conf.update(_broker(settings), **_tasks(settings), **_beat(entries))
    app.conf.update(own_serializers)
    app.conf.task_routes = (_routes(app, settings), *own_routes)
    app.conf.beat_schedule = own_schedule | app.conf.beat_schedule
    app.backend_cls = settings.redis.result_url  # Celery would read CELERY_RESULT_BACKEND before this setting
    if settings.redis.on_engine:
        _install_engine(app, settings)
    # Without the engine's journal, a call has no row before it starts, and retention would delete its object.
    store = settings.tasks.payload_store if settings.redis.on_engine and settings.tasks.payload_storage else None
    if settings.keys.ring_path is not None or store is not None:
        seal_calls(app, settings.tasks.sealer, store=store)
    if settings.probes.port is not None:
        from laneway.platform.probes.celery_probes import (
            add_probes,
        )  # it imports the scheduler, which commands do not need

        add_probes(app, settings)
    return app


def copy_celery(app: Celery, settings: Settings) -> Celery:
    """Make a Celery app with the task modules and the schedules of another one, on other settings."""
    declared = _declarations[app]
    return make_celery(str(app.main), settings, tasks=declared.modules, schedules=declared.schedules)


@dataclass(frozen=True, slots=True)
class _Declarations:
    """What the application declared for one Celery app."""

    modules: tuple[str, ...]
    schedules: tuple[Schedule, ...]
    named_by: str
    settings: Settings


_declarations: WeakKeyDictionary[Celery, _Declarations] = WeakKeyDictionary()


def is_configured(app: Celery) -> bool:
    """Whether a Celery app is configured for the platform."""
    return app in _declarations


def load_tasks(app: Celery) -> None:
    """Import the modules that register tasks, and check all tasks and schedules. Raises ConfigError."""
    declared = _declarations[app]
    for module in (*declared.modules, *WORKER_MODULES):
        import_module(module, named_by=declared.named_by)
    registry.check()
    _check_encryption(app, declared.settings)
    check_schedules(declared.schedules, registry)


def _check_encryption(app: Celery, settings: Settings) -> None:
    """Raise ConfigError when a task must be encrypted and cannot be."""
    encrypted = [spec.name for spec in registry.values() if settings.tasks.sealer.seals(spec)]
    if encrypted and settings.keys.ring_path is None:
        raise KeysMissing(f"The payloads of {encrypted[0]!r}")
    if encrypted and not seals_calls(app):
        raise ConfigError(
            f"The task {encrypted[0]!r} must be encrypted, and the Celery app {app.main!r} has a class of its own for "
            "`amqp`, which would send its arguments as they are: derive that class from "
            "laneway.platform.submission.sealing_producer.EngineProducer, or leave it out."
        )


def load_tasks_or_exit(app: Celery) -> None:
    """Call `load_tasks`; for a task or schedule that cannot work, end the process with the text of the error."""
    try:
        load_tasks(app)
    except ConfigError as error:
        sys.exit(str(error))


@worker_init.connect
def _warn_of_settings(sender: Any, **_: Any) -> None:
    """Log the misspelt settings when a worker starts."""
    declared = _declarations.get(sender.app)
    for warning in settings_warnings(declared.settings) if declared else ():
        log.warning(warning)


@import_modules.connect
def _load_tasks_in_worker(sender: Any, **_: Any) -> None:
    """Load the tasks when a worker or Beat imports its modules."""
    if sender in _declarations:
        try:
            check_signing(_declarations[sender].settings)
        except ConfigError as error:
            sys.exit(str(error))
        load_tasks_or_exit(sender)


def _check_broker(app: Celery, config: Settings) -> None:
    """Refuse an app that has another broker than the settings: its callers would publish where no worker fetches."""
    own = cast("str | None", app.conf.broker_url)
    if own and _address(own) != _address(config.redis.broker_url):
        raise ConfigError(
            f"The Celery app {app.main!r} has the broker {masked(own)}, but the settings name "
            f"{masked(config.redis.broker_url)}: set REDIS_URL, or CELERY_BROKER_URL and "
            "CELERY_RESULT_BACKEND, to the app's addresses."
        )


def _address(url: str) -> tuple[object, ...]:
    """What two spellings of one server's address have in common."""
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return parts.scheme, host, parts.port or 6379, parts.path.strip("/") or "0"


def _as_routes(routes: Any) -> tuple[Any, ...]:
    """The routes of a Celery app as a sequence."""
    return tuple(cast("Sequence[Any]", routes)) if isinstance(routes, list | tuple) else (routes,) if routes else ()


def _broker(config: Settings) -> dict[str, Any]:
    transport = _engine() if config.redis.on_engine else _stock(config)
    return {
        **transport,
        "broker_url": config.redis.broker_url,
        "result_backend": config.redis.result_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # for ever: a worker does not end because the broker is away for long
        "broker_connection_timeout": 3,
        "broker_pool_limit": 32,
        "redis_socket_timeout": 10,
        "redis_socket_connect_timeout": 3,
        "redis_retry_on_timeout": True,
        "task_default_queue": queues.default,
        "task_create_missing_queues": False,
        "task_publish_retry": False,
    }


def _routes(app: Celery, config: Settings) -> TaskRoutes:
    on_engine, on_redis = config.redis.on_engine, _is_on_redis(config)
    return TaskRoutes(partial(load_tasks, app), zero_goes_first=on_redis and not on_engine, has_keys=on_engine)


def _is_on_redis(config: Settings) -> bool:
    return config.redis.broker_url.startswith(("redis", "unix", "sentinel"))


# Without these options a publisher waits forever for a broker that cannot be reached.
_FAIL_FAST = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}


def _engine() -> dict[str, Any]:
    return {"broker_transport_options": _FAIL_FAST, "task_queues": [_queue(name) for name in queues]}


def _install_engine(app: Celery, config: Settings) -> None:
    install(
        app,
        lease=config.tasks.lease_seconds,
        weights={name: config.tasks.weights_of_lanes[lane] for name, lane in queues.items()},
        classes={name: LANE_CLASSES[lane] for name, lane in queues.items()} if config.tasks.lanes == "strict" else None,
        labels=config.tasks.worker_labels,
        connection={"socket_connect_timeout": 3, "socket_timeout": 10},
        key_ring=config.keys.ring_path if config.keys.signs else None,
        signing=config.keys.signing if config.keys.signs else None,
    )


# RabbitMQ does not report a message that it refused unless each message is to be confirmed. Without the timeouts
# (seconds) even closing a connection waits forever for a broker that does not answer.
_AMQP = {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5}


def _stock(config: Settings) -> dict[str, Any]:
    """Return the settings for kombu's own transports. docs/operations.md lists the features that they lack."""
    on_redis = _is_on_redis(config)
    redis_options = {
        "visibility_timeout": max(VISIBILITY_TIMEOUT, 2 * config.tasks.time_limit),
        "priority_steps": list(PRIORITY_STEPS),
        "sep": ":",
        "queue_order_strategy": "laneway.platform.queues:LaneCycle",
        "socket_connect_timeout": 3,
        "socket_timeout": 10,
        "health_check_interval": 10,
    }
    return {
        "broker_transport_options": {**(redis_options if on_redis else _AMQP), **_FAIL_FAST},
        "worker_consumer": "laneway.platform.execution.stock_consumer:StockConsumer",
        "broker_channel_error_retry": True,  # RabbitMQ closes a channel that holds a message for too long
        "task_queues": [_queue(name, None if on_redis else {"x-max-priority": 9}) for name in queues],
    }


def _queue(name: str, arguments: dict[str, Any] | None = None) -> Queue:
    return Queue(name, Exchange(name, type="direct"), routing_key=name, queue_arguments=arguments)


def _tasks(config: Settings) -> dict[str, Any]:
    limits = config.tasks
    return {
        "task_serializer": limits.task_serializer,
        "result_serializer": limits.result_serializer,
        "accept_content": ["json"],
        "task_soft_time_limit": limits.soft_time_limit,
        "task_time_limit": limits.time_limit,
        "task_acks_late": True,
        HAND_ON_SETTING: limits.hand_on_seconds,
        "task_track_started": True,
        "task_send_sent_event": True,
        "result_expires": limits.status_expiry_hours * 3600,
        "result_extended": True,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "timezone": "UTC",
    }


def _own_serializers(app: Celery) -> dict[str, Any]:
    """The settings of an app that signs its messages with Celery's serializer `auth`, which stay in force.

    The platform stores results as JSON all the same.
    """
    if app.conf.task_serializer != SIGNING_SERIALIZER:
        return {}
    accepted = sorted({*app.conf.accept_content} - {"json"})
    return {"task_serializer": SIGNING_SERIALIZER, "accept_content": accepted, "result_accept_content": ["json"]}


def _beat(schedules: Iterable[Schedule]) -> dict[str, Any]:
    return {
        "beat_schedule": {entry.key: entry.as_celery() for entry in schedules},
        "beat_scheduler": "laneway.platform.schedules.scheduler:BeatScheduler",
        "beat_max_loop_interval": 2,
    }


def configure_logs(settings: Settings) -> None:
    """Make Celery's programs write their logs as the settings say."""

    def configure(**_: Any) -> None:
        configure_logging(settings.operation)

    setup_logging.connect(configure, weak=False, dispatch_uid="laneway.logs")
