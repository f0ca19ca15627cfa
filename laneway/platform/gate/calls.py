"""Tries one call with this code, as a worker would: is the task known, does its payload fit, is its queue served."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from laneway.platform.errors import PlatformError
from laneway.platform.gate.findings import Kind, Problem
from laneway.platform.gate.misfit import misfit
from laneway.platform.object_store import StorageUnavailable
from laneway.platform.payload_store import PayloadLost
from laneway.platform.queues import queues as declared
from laneway.platform.registry import registry
from laneway.platform.sealing import SealedUnreadable, opened_payload


class NotTried(PlatformError):
    """A call cannot be tried now."""

    template = "{reason}"
    reason: str


class Calls:
    """Tries calls."""

    def __init__(self, plain_tasks: Collection[str]) -> None:
        """`plain_tasks`: the names of the tasks of plain Celery, whose arguments nobody checks."""
        self._plain = plain_tasks

    def problem(self, name: str, payload: dict[str, Any], *, queue: str) -> Problem | None:
        """Why a call would fail; None: it would not. Raises NotTried."""
        if queue not in declared:
            return Problem(Kind.UNKNOWN_QUEUE, queue, f"No worker of this code takes tasks from the queue {queue!r}.")
        return self.problem_of_call(name, payload)

    def problem_of_call(self, name: str, payload: dict[str, Any]) -> Problem | None:
        """As `problem`, whatever its queue is. Raises NotTried."""
        spec = registry.get(name)
        if spec is None:
            if name in self._plain:
                return None
            return Problem(Kind.UNKNOWN_TASK, name, f"This code has no task {name!r}.")
        try:
            problem = misfit(spec.payload, opened_payload(payload))
        except (SealedUnreadable, PayloadLost) as error:
            return Problem(Kind.UNREADABLE, spec.name, f"The payload cannot be read with these settings. {error}")
        except StorageUnavailable as error:
            raise NotTried(str(error)) from error
        return None if problem is None else Problem(Kind.PAYLOAD, spec.name, f"The payload does not fit: {problem}.")
