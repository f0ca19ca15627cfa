"""The platform's Celery app with one task that does nothing: what is left is the platform's own cost."""

from __future__ import annotations

from typing import Any, Final

from app.core.catalog import CATALOG, TaskSpec
from app.core.celery_app import celery_app
from app.schemas.task import Payload
from app.tasks.base import PlatformTask, task

__all__ = ["NOTHING", "Blob", "celery_app"]


class Blob(Payload):
    """So many bytes."""

    data: str = ""


NOTHING: Final = TaskSpec("bench_nothing_task", "maintenance", Blob)
CATALOG[NOTHING.name] = NOTHING


@task(NOTHING)
def bench_nothing_task(_self: PlatformTask, payload: Blob) -> dict[str, Any]:
    """Nothing."""
    return {"bytes": len(payload.data)}
