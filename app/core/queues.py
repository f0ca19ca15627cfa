"""The application's queues, the lanes they belong to, and the workers that serve them."""

from __future__ import annotations

from typing import Final

from laneway.platform.queues import Lane, WorkerGroup, declare_queues

QUEUES: Final[dict[str, Lane]] = {
    "conversations": Lane.HIGH,
    "webhooks": Lane.MEDIUM,
    "crm": Lane.MEDIUM,
    "documents": Lane.MEDIUM,
    "workflows": Lane.MEDIUM,
    "dev": Lane.MEDIUM,
    "qa": Lane.MEDIUM,
    "fix": Lane.MEDIUM,
    "deploy": Lane.MEDIUM,
    "analytics": Lane.LOW,
    "maintenance": Lane.LOW,
}

WORKERS: Final = (
    WorkerGroup("worker", ("conversations", "webhooks", "crm", "documents", "workflows")),
    # This worker is separate, so that long analytics and builds never delay a conversation.
    # It has two processes, so that one long build does not delay the maintenance.
    WorkerGroup("bulk", ("analytics", "maintenance", "dev", "qa", "fix", "deploy"), concurrency=2),
)

declare_queues(QUEUES, workers=WORKERS)
