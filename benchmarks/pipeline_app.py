"""The application's Celery app with one task that does nothing, to measure the cost of the platform itself."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from app.core.celery_app import celery_app
from laneway import task
from laneway.schemas.payload import Payload

__all__ = ["NOTHING", "WORK", "Blob", "Rounds", "celery_app"]


class Blob(Payload):
    """Data of any size."""

    data: str = ""


@task(queue="maintenance")
def bench_nothing_task(payload: Blob) -> dict[str, Any]:
    """Do nothing."""
    return {"bytes": len(payload.data)}


class Rounds(Payload):
    """An amount of work."""

    rounds: int


@task(queue="maintenance")
def bench_work_task(payload: Rounds) -> dict[str, Any]:
    """Hash so many rounds, which takes time in proportion."""
    return {"digest": hashlib.pbkdf2_hmac("sha256", b"laneway", b"forecast", payload.rounds).hex()}


NOTHING: Final = bench_nothing_task.spec
WORK: Final = bench_work_task.spec
