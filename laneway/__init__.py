"""Laneway's delivery engine: messages on Redis or Valkey that are neither lost nor run twice without reason."""

import importlib

from laneway.admin import Found, Limits, Peeked
from laneway.answers import Burial, Cancelled, Put, PutCode, QueueStats, Settled, State, Verdict
from laneway.codec import message_options
from laneway.durability import Durability
from laneway.engine import Batch, Delivery, Engine
from laneway.envelope import Message, Stored, Unique, UniqueMode
from laneway.errors import (
    BadAddress,
    DuplicateTask,
    DurabilityUnavailable,
    EngineError,
    InvalidMessage,
    JournalFull,
    NoEviction,
    NotDurable,
    QueueFull,
    ServerLost,
    ServerTooOld,
    StaleLease,
    TaskCancelled,
    TooLate,
    UnknownMessage,
)
from laneway.journal import Event, Kind
from laneway.lanes import Lanes
from laneway.lease import Lease

_LAZY = {"ResultBackend": "laneway.backend", "Transport": "laneway.transport"}


def __getattr__(name: str) -> object:
    """Import kombu only when its transport is asked for."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(name)


__all__ = [
    "BadAddress",
    "Batch",
    "Burial",
    "Cancelled",
    "Delivery",
    "DuplicateTask",
    "Durability",
    "DurabilityUnavailable",
    "Engine",
    "EngineError",
    "Event",
    "Found",
    "InvalidMessage",
    "JournalFull",
    "Kind",
    "Lanes",
    "Lease",
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
    "TooLate",
    "Unique",
    "UniqueMode",
    "UnknownMessage",
    "Verdict",
    "message_options",
]
