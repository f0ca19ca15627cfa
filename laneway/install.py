"""The engine in a Celery project: what Celery's settings call its parts."""

from __future__ import annotations

from typing import Final

TRANSPORT: Final = "laneway:Transport"
RESULT_BACKEND: Final = "laneway:ResultBackend"
POOL: Final = "laneway.worker.prefork:TaskPool"
CONSUMER: Final = "laneway.worker.consumer:Consumer"
PRODUCER: Final = "laneway.worker.producer:AMQP"
