"""The options of a submission."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4, uuid5

from laneway.engine import Durability, UniqueMode
from laneway.platform.flow.task_flow import FlowOptions
from laneway.platform.queues import Priority
from laneway.schemas.choices import IfBusy

IDEMPOTENCY: Final = UUID("7d0d6f0e-3f4b-4f86-9c35-6b6f0c2f5d11")
"""Namespace of the ids that are made from idempotency keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """How a task is accepted. All times are in seconds."""

    id: str | None = None
    """A repeat with the same id and the same payload returns the handle of the first task."""
    idempotency_key: str | None = None
    """Used instead of `id`, for a key of any form: the id is derived from it."""
    key: str | None = None
    """The ordering key. None: the value of the field that the task's declaration names."""
    priority: Priority | None = None
    """None: the priority of the task's declaration."""
    delay: float = 0
    """The task is not started before this time has passed."""
    expires: float | None = None
    """A task that has not started within this time is never started."""
    unique: str | None = None
    """Only one task with this key is accepted at a time; another one is refused with DuplicateTask."""
    unique_mode: UniqueMode = UniqueMode.UNTIL_DONE
    """How long the uniqueness key is held."""
    unique_seconds: float = 0
    """How long the key is held with `UniqueMode.FOR_TIME`; with other modes the longest time, 0: no limit."""
    batch: str | None = None
    """The batch of which it is a task."""
    tags: tuple[str, ...] = ()
    """Words by which the task is found."""
    queue: str | None = None
    """None: the queue of the task's declaration."""
    max_retries: int | None = None
    """None: the number of the task's declaration, or TASK_MAX_RETRIES."""
    time_limit: float | None = None
    """An attempt is stopped after this time. None: TASK_SOFT_TIME_LIMIT."""
    flow: FlowOptions = field(default_factory=FlowOptions)
    """Its tenant, weight and deadline, if they are not those of the task's declaration."""
    durability: Durability = Durability.MEMORY
    """Where the message must be stored before the task counts as queued."""
    debounce: float | None = None
    """The task starts this long after the last submission of its debounce key, which also gives its payload."""
    debounce_max: float | None = None
    """It starts at most this long after the first of these submissions. None: ten times `debounce`."""
    debounce_key: str | None = None
    """None: the ordering key."""
    throttle: float | None = None
    """At most one task of the throttle key starts in this time; a further submission returns the handle of that one."""
    throttle_key: str | None = None
    """None: the ordering key."""
    if_busy: IfBusy | None = None
    """What happens while another task of this name and ordering key waits or runs. None: that of the declaration."""

    def task_id(self) -> str:
        """Return `id`, or an id derived from the idempotency key, or a new one."""
        if self.id is not None:
            return self.id
        return str(uuid5(IDEMPOTENCY, self.idempotency_key) if self.idempotency_key is not None else uuid4())

    @property
    def needs_broker(self) -> bool:
        """True when the broker must take the message now: uniqueness and durability cannot be given later."""
        return self.durability is not Durability.MEMORY or self.unique is not None
