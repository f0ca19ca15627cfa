"""Enumerations of requests and responses. It needs no pydantic, so that the help of a command stays quick."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """The state of a task."""

    ACCEPTED = "accepted"
    PENDING = "pending"
    SCHEDULED = "scheduled"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    DEAD_LETTER = "dead_letter"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class PriorityName(StrEnum):
    """The priority of a task."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


class UniqueFor(StrEnum):
    """Until when a uniqueness key is held."""

    START = "until_start"
    DONE = "until_done"
    TIME = "for_time"


class DurabilityName(StrEnum):
    """Where the message must be stored before the task counts as accepted."""

    MEMORY = "memory"
    DISK = "disk"
    REPLICA = "replica"


class IfBusy(StrEnum):
    """What happens to a submission while another task of the same name and ordering key waits or runs."""

    WAIT = "wait"
    DROP = "drop"
    REPLACE = "replace"
    CANCEL_RUNNING = "cancel_running"
    NEWEST = "newest"


class SubmitOutcome(StrEnum):
    """What a submission led to that has a debounce, a throttle or an `if_busy`."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    MERGED = "merged"
    THROTTLED = "throttled"
    DROPPED = "dropped"
    REPLACED = "replaced"


class ClearableState(StrEnum):
    """Final states whose tasks may be deleted. Dead letters are handled by `/dead-letters`."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class RunState(StrEnum):
    """The state of a run."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class BatchEvent(StrEnum):
    """At which event of a batch a task is submitted."""

    SUCCESS = "success"
    COMPLETE = "complete"
    DEATH = "death"


class BatchState(StrEnum):
    """The state of a batch. Open: it waits for more tasks. Failed: all tasks have ended, but not all are completed."""

    OPEN = "open"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class EndpointState(StrEnum):
    """Whether webhooks are sent to a receiver."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class EventKindName(StrEnum):
    """The kinds of the events of tasks."""

    ACCEPTED = "accepted"
    PUT = "put"
    BEGIN = "begin"
    END = "end"
    LOST = "lost"
    PROGRESS = "progress"
    LOG = "log"
    OUTPUT = "output"
    ACK = "ack"
    BURY = "bury"
    CANCEL = "cancel"
    MARK = "mark"
    CANCEL_REQUESTED = "cancel requested"
    PURGE = "purge"
    REQUEUE = "requeue"
    RETRIED = "retried by hand"
    DISCARD = "discard"
    DISCARDED = "discarded"
    RESTORED = "restored"
    FORGET = "forget"
    REPLACED = "replaced"
    REPLACES = "replaces"
    SUPERSEDED = "superseded"
    PRIORITY_CHANGED = "priority changed"
    REPLAYED = "replayed"
    CANCEL_UNDONE = "cancel undone"


class Disturbance(StrEnum):
    """What a drill does."""

    KILL_WORKER = "kill-worker"
    STOP_WORKER = "stop-worker"
    RESTART_BROKER = "restart-broker"
    PARTITION = "partition"
