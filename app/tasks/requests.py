"""What ends a task from outside, in the worker's main process, and how that becomes its outcome."""

# The untyped edge of Celery and kombu.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUntypedBaseClass=false

from __future__ import annotations

from typing import Any

from celery.worker.request import Request

from app.core.errors import PlatformError
from app.core.logging import logger
from app.services.container import services
from app.services.outcomes import Raised
from laneway.codec import HEADER_LEASE

log = logger(__name__)


class PlatformRequest(Request):
    """A message that a worker has taken in. Celery acknowledges what is revoked before it says so to anybody."""

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        """Revoked or killed with Celery's own means, or not started in time: recorded while the lease still holds."""
        conclude(self, None, how="expired" if expired else "killed" if terminated else "revoked")
        super()._announce_revoked(reason, terminated, signum, expired)


def conclude(request: Any, outcome: Raised | None, *, how: str) -> None:
    """Settle the task of a request for a process that cannot: None when it was stopped (`how`)."""
    spec = getattr(request.task, "spec", None)
    queue = (request.delivery_info or {}).get("routing_key") or (spec.queue if spec else "")
    try:
        services().executions.conclude_for(
            request.id, str(queue), outcome, spec=spec, how=how, worker=str(request.hostname),
            lease=request.request_dict.get(HEADER_LEASE),
        )  # fmt: skip
    except PlatformError as problem:
        log.warning("not settled now; its lease will run out", task_id=request.id, error=str(problem))
