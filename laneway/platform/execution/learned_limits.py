"""Closes the limits of a task that learn (`Limit(..., learn=True)`), when its service has asked to wait."""

from __future__ import annotations

from typing import Final, Protocol

from laneway.platform import clock
from laneway.platform.errors import BrokerUnavailable
from laneway.platform.execution.outcomes import Snoozed
from laneway.platform.flow.task_flow import limit_key
from laneway.platform.logging import logger
from laneway.platform.registry import TaskSpec
from laneway.platform.retry_after import asked_wait
from laneway.schemas.payload import Payload

log = logger(__name__)

LEAST_WAIT: Final = 1.0
"""Seconds. A service that asks for no wait, or for one until a time that is over, is given this time."""


class Blocks(Protocol):
    """Closes a limit for a while."""

    def block_limit(self, name: str, seconds: float, *, key: str) -> None: ...


def learn(platform: Blocks, spec: TaskSpec, payload: Payload, error: BaseException) -> Snoozed | None:
    """Let nothing through the limits that learn, for as long as the service behind an error has asked to wait.

    Returns the outcome of the attempt: its task runs again then, and the attempt does not count. None: no limit of the
    task learns, or the error asks for nothing. While the broker is away, the task alone waits.
    """
    limits = [limit for limit in spec.flow.limits if limit.learn]
    wait = asked_wait(error, at=clock.now()) if limits else None
    if wait is None:
        return None
    seconds = max(wait, LEAST_WAIT)
    for limit in limits:
        try:
            platform.block_limit(limit.name, seconds, key=limit_key(limit, payload))
        except BrokerUnavailable as problem:
            log.warning("a limit could not be closed; the task alone waits", limit=limit.name, error=str(problem))
    names = ", ".join(limit.name for limit in limits)
    log.warning("a service has asked to wait", limits=names, seconds=seconds, error=type(error).__name__)
    return Snoozed(seconds, f"the service behind the limit {names} has asked to wait for {seconds:g} s")
