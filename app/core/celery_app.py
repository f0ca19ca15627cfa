"""The Celery app: `celery -A app.core.celery_app:celery_app worker|beat|flower`."""

from __future__ import annotations

import os
import sys
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from kombu.entity import Exchange, Queue

from app.core.config import ROOT, Settings, settings
from app.core.errors import ConfigError
from app.core.logging import configure_logging
from app.core.queues import (
    ENGINE,
    ENGINE_CONSUMER,
    ENGINE_PREFORK,
    ENGINE_RESULTS,
    LANE_WEIGHTS,
    PRIORITY_STEPS,
    QUEUES,
)
from beat_schedule import SCHEDULE

TASK_MODULES = (
    "app.tasks.conversation_tasks",
    "app.tasks.webhook_tasks",
    "app.tasks.document_tasks",
    "app.tasks.crm_tasks",
    "app.tasks.workflow_tasks",
    "app.tasks.pipeline_tasks",
    "app.tasks.analytics_tasks",
    "app.tasks.maintenance_tasks",
    "app.tasks.lifecycle",
)
VISIBILITY_TIMEOUT = 3600
"""Seconds after which Redis hands out an unacknowledged message again; longer than any task may run."""


def make_celery(config: Settings) -> Celery:
    """A Celery app configured from the settings."""
    app = Celery("laneway", include=list(TASK_MODULES), amqp="laneway.amqp:AMQP")
    broker = _broker(config)
    app.conf.update(broker, **_tasks(config), **_beat(config))
    app.backend_cls = broker["result_backend"]  # before the setting, Celery reads CELERY_RESULT_BACKEND itself
    return app


def _broker(config: Settings) -> dict[str, Any]:
    transport = _engine(config) if config.redis.on_engine else _stock(config)
    return {
        **transport,
        "broker_url": config.redis.broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_timeout": 3,
        "broker_pool_limit": 32,
        "redis_socket_timeout": 10,
        "redis_socket_connect_timeout": 3,
        "redis_retry_on_timeout": True,
        "task_default_queue": "maintenance",
        "task_create_missing_queues": False,
        "task_publish_retry": False,
    }  # fmt: skip


# Without these a publisher waits for ever for a broker that is away.
_IMPATIENT = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}


def _engine(config: Settings) -> dict[str, Any]:
    result_url = config.redis.result_url
    return {
        "broker_transport": ENGINE,
        "broker_transport_options": {
            "lease": config.tasks.lease_seconds,
            "weights": {name: LANE_WEIGHTS[lane] for name, lane in QUEUES.items()},
            "connection": {"socket_connect_timeout": 3, "socket_timeout": 10},
            **_IMPATIENT,
        },
        "result_backend": f"{ENGINE_RESULTS}+{result_url}" if result_url.startswith("redis") else result_url,
        "task_queues": [_queue(name) for name in QUEUES],
        "worker_pool": ENGINE_PREFORK,
        "worker_consumer": ENGINE_CONSUMER,
    }


# RabbitMQ is silent about a message that it did not take, unless it is asked to confirm each; and without the
# timeouts (seconds) even closing a connection waits for ever for a broker that does not answer.
_AMQP = {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5}


def _stock(config: Settings) -> dict[str, Any]:
    """kombu's own transports; docs/operations.md says what is missing there."""
    on_redis = config.redis.broker_url.startswith(("redis", "unix", "sentinel"))
    redis_options = {
        "visibility_timeout": max(VISIBILITY_TIMEOUT, 2 * config.tasks.time_limit),
        "priority_steps": list(PRIORITY_STEPS),
        "sep": ":",
        "queue_order_strategy": "app.core.queues:LaneCycle",
        "socket_connect_timeout": 3,
        "socket_timeout": 10,
        "health_check_interval": 10,
    }
    return {
        "broker_transport_options": {**(redis_options if on_redis else _AMQP), **_IMPATIENT},
        "broker_channel_error_retry": True,  # RabbitMQ closes the channel of who holds a message for too long
        "result_backend": config.redis.result_url,
        "task_queues": [_queue(name, None if on_redis else {"x-max-priority": 9}) for name in QUEUES],
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


def _beat(config: Settings) -> dict[str, Any]:
    return {
        "beat_schedule": {entry.key: entry.as_celery() for entry in SCHEDULE},
        "beat_scheduler": "redbeat.RedBeatScheduler",
        "beat_max_loop_interval": 2,
        "redbeat_redis_url": config.redis.schedules_url,
        "redbeat_lock_timeout": 10,
        "redbeat_redis_options": {"socket_timeout": 10, "socket_connect_timeout": 3},
    }


@setup_logging.connect
def _log(**_: Any) -> None:
    configure_logging(settings().operation)


def _load() -> Celery:
    try:
        return make_celery(settings())
    except ConfigError as error:
        sys.exit(str(error))  # one readable text for whoever started the command, not a traceback


# Flower started from another folder would not find its configuration, and so would have no login.
os.environ.setdefault("FLOWER_CONF", str(ROOT / "flowerconfig.py"))
celery_app = _load()
