"""A plain Celery project on Laneway's engine: `celery -A tasks worker`."""

import os

from celery import Celery

import laneway

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")

app = Celery("shop", broker=f"{URL}/0", backend=f"{URL}/1")
laneway.install(app)


@app.task(acks_late=True)
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@app.task(acks_late=True)
def total(numbers: list[int]) -> int:
    """Add many numbers."""
    return sum(numbers)
