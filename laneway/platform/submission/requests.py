"""A submission as the API and the command line describe it → its options."""

from __future__ import annotations

from laneway.engine import Durability, UniqueMode
from laneway.platform.flow.task_flow import FlowOptions
from laneway.platform.queues import Priority
from laneway.platform.registry import registry
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.history import TaskRequest, UniqueFor
from laneway.schemas.task import TaskHandle

_MODES = {
    UniqueFor.START: UniqueMode.UNTIL_START,
    UniqueFor.DONE: UniqueMode.UNTIL_DONE,
    UniqueFor.TIME: UniqueMode.FOR_TIME,
}


def submit_options(request: TaskRequest) -> SubmitOptions:
    """The options of a request, which was checked before."""
    unique, debounce, throttle = request.unique, request.debounce, request.throttle
    return SubmitOptions(
        id=request.id,
        idempotency_key=request.idempotency_key,
        key=request.key,
        delay=request.delay,
        expires=request.expires,
        priority=_priority(request),
        tags=tuple(request.tags),
        unique=unique.key if unique else None,
        unique_seconds=unique.seconds if unique else 0,
        unique_mode=_MODES[unique.until if unique else UniqueFor.DONE],
        flow=FlowOptions(tenant=request.tenant, weight=request.weight, deadline=request.deadline),
        debounce=debounce.seconds if debounce else None,
        debounce_max=debounce.max_seconds if debounce else None,
        debounce_key=debounce.key if debounce else None,
        throttle=throttle.seconds if throttle else None,
        throttle_key=throttle.key if throttle else None,
        if_busy=request.if_busy,
        durability=Durability(request.durability.value),
    )


def with_present_name(handle: TaskHandle, name: str) -> TaskHandle:
    """The receipt, with the task's present name if it was submitted under an earlier one."""
    present = registry.current_name(name)
    return handle if present == name else handle.model_copy(update={"renamed_to": present})


def _priority(request: TaskRequest) -> Priority | None:
    if isinstance(request.priority, int):
        return Priority(request.priority)
    return Priority[request.priority.name] if request.priority else None
