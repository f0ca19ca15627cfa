"""The options of a submission as `task.options(...)` takes them, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic cannot read that of Python 3.11

from laneway.engine import Durability, UniqueMode
from laneway.engine.flow_fields import MAX_WEIGHT
from laneway.platform import clock
from laneway.platform.flow.task_flow import FlowOptions
from laneway.platform.queues import Priority
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.invalid_options import InvalidOptions
from laneway.schemas.choices import IfBusy
from laneway.schemas.history import A_YEAR, Tag

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session, scoped_session

    AnySession: TypeAlias = Session | scoped_session[Session] | Connection | AsyncSession | AsyncConnection
else:
    AnySession = Any  # pydantic does not check it

Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
TaskId = Annotated[str, StringConstraints(min_length=1, max_length=155, pattern=r"^[^\x00]*$")]
Seconds = Annotated[float, Field(ge=0, le=A_YEAR)] | Annotated[timedelta, Field(ge=0, le=A_YEAR)]
"""A time in seconds, or as a timedelta."""
PriorityName = Literal["low", "normal", "high", "critical"]
IfBusyName = Literal["wait", "drop", "replace", "cancel_running", "newest"]


@with_config(ConfigDict(extra="forbid"))
class TaskOptions(TypedDict, total=False):
    """The options of a submission. Each is optional."""

    id: TaskId
    """The idempotency key: a repeat with the same id and payload returns the handle of the first task."""
    idempotency_key: str
    """Used instead of `id`, for a key of any form: the id is derived from it."""
    key: Text
    """The ordering key, instead of that of the declaration: tasks with the same key run one at a time, in order."""
    priority: Priority | PriorityName
    """Within the queue. Default: that of the declaration."""
    delay: Seconds
    """The task is not started before this time has passed."""
    at: AwareDatetime
    """The task is not started before this moment."""
    expires: Seconds
    """A task that has not started within this time is never started."""
    unique: Text
    """Only one task with this key is accepted at a time; another one is refused with DuplicateTask."""
    unique_mode: UniqueMode
    """How long the uniqueness key is held. Default: until the task is done."""
    unique_seconds: Seconds
    """How long the key is held with `UniqueMode.FOR_TIME`; with other modes the longest time, 0: no limit."""
    batch: TaskId
    """The id of the batch of which it is a task."""
    tags: Sequence[Tag]
    """Words by which the task is found."""
    queue: str
    """Default: that of the declaration."""
    retries: Annotated[int, Field(ge=0)]
    """How often a failed task runs again. Default: that of the declaration."""
    time_limit: Annotated[float, Field(gt=0)]
    """An attempt is stopped after so many seconds. Default: TASK_SOFT_TIME_LIMIT."""
    tenant: Text
    """Instead of that of the declaration: tenants of a queue take turns."""
    weight: Annotated[int, Field(ge=1, le=MAX_WEIGHT)]
    """The tenant's share of the queue. Default: 1."""
    deadline: Seconds
    """Within this time from its due time the task should run; earlier deadlines go first. Not for tasks of tenants."""
    durability: Durability
    """Where the message must be stored before the submission returns."""
    debounce: Seconds
    """The task starts this long after the last submission of its debounce key, which gives its arguments and options.
    A further submission before the start returns the same task."""
    debounce_max: Seconds
    """It starts at most this long after the first of these submissions. Default: ten times `debounce`."""
    debounce_key: Text
    """Whose submissions are one task, together with the task's name. Default: the ordering key."""
    throttle: Seconds
    """At most one task of the throttle key starts in this time. A further submission returns that task."""
    throttle_key: Text
    """Whose tasks are counted, together with the task's name. Default: the ordering key."""
    if_busy: IfBusy | IfBusyName
    """What happens while another task of this name and ordering key waits or runs. Default: that of the declaration."""
    session: AnySession
    """A session or connection of the caller, on the platform's database. The task is committed with its transaction,
    and sent after the commit."""


_SAME: Final = (
    *("id", "idempotency_key", "key", "unique", "unique_mode", "queue", "time_limit", "durability"),
    *("debounce_key", "throttle_key", "batch"),
)
"""Options that have the same name and meaning in `SubmitOptions`."""
_TIMES: Final = ("delay", "expires", "unique_seconds", "debounce", "debounce_max", "throttle")
"""Options that are seconds in `SubmitOptions`."""


def checked(task: str, options: TaskOptions) -> TaskOptions:
    """Check options. Raises InvalidOptions, which names each mistake."""
    try:
        found = _adapter().validate_python(options)
    except ValidationError as error:
        problems = [f"{item['loc'][0]}: {item['msg']}" for item in error.errors(include_input=False)]
        raise InvalidOptions(task, list(dict.fromkeys(problems))) from None
    if "delay" in found and "at" in found:
        raise InvalidOptions(task, ["give delay or at, not both"])
    return found


def submit_options(options: TaskOptions) -> SubmitOptions:
    """Convert checked options. `at` becomes a delay that starts now."""
    values: dict[str, Any] = {name: value for name, value in options.items() if name in _SAME}
    if "at" in options:
        values["delay"] = max(0.0, (options["at"] - clock.now()).total_seconds())
    values |= {name: _seconds(value) for name, value in options.items() if name in _TIMES}
    if "if_busy" in options:
        values["if_busy"] = IfBusy(options["if_busy"])
    if "priority" in options:
        priority = options["priority"]
        values["priority"] = Priority[priority.upper()] if isinstance(priority, str) else priority
    if "retries" in options:
        values["max_retries"] = options["retries"]
    flow = FlowOptions(
        tenant=options.get("tenant"),
        weight=options.get("weight", 1),
        deadline=_seconds(options["deadline"]) if "deadline" in options else None,
    )
    return SubmitOptions(**values, flow=flow, tags=tuple(options.get("tags", ())))


@cache
def _adapter() -> TypeAdapter[TaskOptions]:
    return TypeAdapter(TaskOptions)


def _seconds(time: Any) -> float:
    return time.total_seconds() if isinstance(time, timedelta) else time
