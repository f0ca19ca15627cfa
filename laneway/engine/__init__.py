"""The delivery engine: messages on Redis or Valkey. It imports redis-py, but neither Celery nor kombu."""

from laneway.engine.admin import Limits, MessageInfo
from laneway.engine.durability import Durability
from laneway.engine.engine import Batch, Delivery, Engine
from laneway.engine.errors import (
    DuplicateTask,
    DurabilityUnavailable,
    EngineError,
    EvictionWarning,
    InvalidMessage,
    InvalidUrl,
    JournalFull,
    LanewayError,
    NewerQueue,
    NotDurable,
    QueueFull,
    ServerLost,
    ServerTooOld,
    TaskCancelled,
    TooLate,
    UnknownMessage,
)
from laneway.engine.journal import Event, EventKind
from laneway.engine.lease import Lease
from laneway.engine.message import Message, Stored, Unique, UniqueMode
from laneway.engine.replies import (
    AckAction,
    CancelResult,
    DeadLetterInfo,
    LeaseStatus,
    MessageState,
    PutCode,
    PutResult,
    QueueStats,
    StoreCode,
)
from laneway.engine.round_robin import RoundRobin

__all__ = [
    "AckAction",
    "Batch",
    "CancelResult",
    "DeadLetterInfo",
    "Delivery",
    "DuplicateTask",
    "Durability",
    "DurabilityUnavailable",
    "Engine",
    "EngineError",
    "Event",
    "EventKind",
    "EvictionWarning",
    "InvalidMessage",
    "InvalidUrl",
    "JournalFull",
    "LanewayError",
    "Lease",
    "LeaseStatus",
    "Limits",
    "Message",
    "MessageInfo",
    "MessageState",
    "NewerQueue",
    "NotDurable",
    "PutCode",
    "PutResult",
    "QueueFull",
    "QueueStats",
    "RoundRobin",
    "ServerLost",
    "ServerTooOld",
    "StoreCode",
    "Stored",
    "TaskCancelled",
    "TooLate",
    "Unique",
    "UniqueMode",
    "UnknownMessage",
]
