"""A platform by hand: FastAPI, Celery and Redis in one file. Late acks, stored results, no history."""

from __future__ import annotations

from celery import Celery
from common import REDIS
from fastapi import FastAPI
from pydantic import BaseModel

app = Celery("bench", broker=f"{REDIS}/0", backend=f"{REDIS}/1")
app.conf.update(task_acks_late=True, task_default_queue="bench", worker_send_task_events=False)
api = FastAPI()


class Blob(BaseModel):
    """Data of any size."""

    data: str = ""


class Submission(BaseModel):
    """A task by its name."""

    name: str
    payload: Blob


@app.task(name="bench_nothing_task")
def nothing(payload: dict[str, str]) -> dict[str, int]:
    """Do nothing."""
    return {"bytes": len(payload["data"])}


@api.post("/tasks", status_code=202)
def submit(submission: Submission) -> dict[str, str]:
    """Enqueue a task."""
    sent = app.send_task(submission.name, (submission.payload.model_dump(),))
    return {"task_id": sent.id, "status": "queued"}
