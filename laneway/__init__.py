"""Laneway's delivery engine: messages on Redis or Valkey that are neither lost nor run twice without reason."""

from laneway.admin import Found, Limits, Peeked
from laneway.answers import Burial, Cancelled, Put, PutCode, QueueStats, Settled, State
from laneway.durability import Durability
from laneway.engine import Batch, Delivery, Engine
from laneway.envelope import Message, Stored, Unique, UniqueMode
from laneway.errors import (
    DuplicateTask,
    DurabilityUnavailable,
    EngineError,
    InvalidMessage,
    NoEviction,
    NotDurable,
    QueueFull,
    ServerLost,
    ServerTooOld,
    StaleLease,
    TaskCancelled,
    UnknownMessage,
)
from laneway.lanes import Lanes

__all__ = [
    "Batch",
    "Burial",
    "Cancelled",
    "Delivery",
    "DuplicateTask",
    "Durability",
    "DurabilityUnavailable",
    "Engine",
    "EngineError",
    "Found",
    "InvalidMessage",
    "Lanes",
    "Limits",
    "Message",
    "NoEviction",
    "NotDurable",
    "Peeked",
    "Put",
    "PutCode",
    "QueueFull",
    "QueueStats",
    "ServerLost",
    "ServerTooOld",
    "Settled",
    "StaleLease",
    "State",
    "Stored",
    "TaskCancelled",
    "Unique",
    "UniqueMode",
    "UnknownMessage",
]
