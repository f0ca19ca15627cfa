"""The Celery app: `celery -A app.core.celery_app:celery_app worker|beat|flower`."""

from __future__ import annotations

import os
import sys

from celery import Celery

from app.core import queues as queues
from app.core.settings import ROOT, Settings, settings
from beat_schedule import SCHEDULE
from laneway.platform import celery_app as library
from laneway.platform.errors import ConfigError
from laneway.platform.registry import registry

TASK_MODULES = (
    "app.tasks.conversation_tasks",
    "app.tasks.webhook_tasks",
    "app.tasks.document_tasks",
    "app.tasks.crm_tasks",
    "app.tasks.workflow_tasks",
    "app.tasks.pipeline_tasks",
    "app.tasks.analytics_tasks",
    "app.tasks.maintenance_tasks",
)


def make_celery(config: Settings) -> Celery:
    """Make a Celery app that is configured from the settings."""
    return library.make_celery("laneway", config, tasks=TASK_MODULES, schedules=SCHEDULE)


def _load_app() -> Celery:
    try:
        config = settings()
        library.configure_logs(config)
        app = make_celery(config)
    except ConfigError as error:
        sys.exit(str(error))  # The user gets one readable text instead of a traceback.
    registry.bind(app.register_task)
    return app


# Flower reads its configuration from the current folder. Without this a Flower started elsewhere would have no login.
os.environ.setdefault("FLOWER_CONF", str(ROOT / "flowerconfig.py"))
celery_app = _load_app()
