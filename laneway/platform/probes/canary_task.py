"""The task of the canaries: importing this module registers it."""

from __future__ import annotations

from typing import Any

from laneway.platform import clock
from laneway.platform.current import current_platform
from laneway.platform.db.queries import canaries as queries
from laneway.platform.errors import PlatformError
from laneway.platform.library_schedules import CANARY
from laneway.platform.logging import logger
from laneway.platform.probes.canaries import DELETED_AT_ONCE, KEPT
from laneway.platform.queues import queues
from laneway.platform.task_decorator import task
from laneway.schemas.payload import Payload

log = logger(__name__)


class Canary(Payload):
    """The queue through which it was sent."""

    queue: str


@task(queue=queues.default, name=CANARY, retries=0, internal=True)
def pass_through_queue(payload: Canary) -> dict[str, Any]:
    """Show that the queue is served, and delete the older canaries of the queue."""
    try:
        with current_platform().database.transaction() as session:
            before = clock.now() - KEPT
            return {"deleted": queries.delete_ended(session, payload.queue, before=before, limit=DELETED_AT_ONCE)}
    except PlatformError as error:  # the next canary deletes them
        log.warning("older canaries are left for the next one", queue=payload.queue, error=str(error))
        return {"deleted": 0}
