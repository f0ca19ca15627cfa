"""The application's Celery app with one task that does nothing, to measure the cost of the platform itself."""

from __future__ import annotations

from typing import Any, Final

from app.core.celery_app import celery_app
from laneway import task
from laneway.schemas.payload import Payload

__all__ = ["NOTHING", "Blob", "celery_app"]


class Blob(Payload):
    """Data of any size."""

    data: str = ""


@task(queue="maintenance")
def bench_nothing_task(payload: Blob) -> dict[str, Any]:
    """Do nothing."""
    return {"bytes": len(payload.data)}


NOTHING: Final = bench_nothing_task.spec
