"""The delivery engine: messages on Redis or Valkey. It imports redis-py, but neither Celery nor kombu.

A name is imported when it is first used, so that a command that needs the errors alone does not import redis-py.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laneway.engine.admin import Limits
    from laneway.engine.admin_replies import MessageInfo
    from laneway.engine.attempts import AttemptEnd, AttemptStart
    from laneway.engine.durability import Durability
    from laneway.engine.engine import Batch, Delivery, Engine
    from laneway.engine.errors import (
        DuplicateTask,
        DurabilityUnavailable,
        EngineError,
        EvictionWarning,
        InvalidLimit,
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
    from laneway.engine.flow_fields import Flow, LimitUse
    from laneway.engine.journal import Event, EventKind, JournalPage
    from laneway.engine.lease import HandOn, Lease
    from laneway.engine.message import Message, Stored, Unique, UniqueMode
    from laneway.engine.named_limits import NamedLimit, NamedLimitState
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
        Stray,
        StrayKind,
    )
    from laneway.engine.round_robin import RoundRobin

_HOMES = {
    "AckAction": "replies",
    "AttemptEnd": "attempts",
    "AttemptStart": "attempts",
    "Batch": "engine",
    "CancelResult": "replies",
    "DeadLetterInfo": "replies",
    "Delivery": "engine",
    "DuplicateTask": "errors",
    "Durability": "durability",
    "DurabilityUnavailable": "errors",
    "Engine": "engine",
    "EngineError": "errors",
    "Event": "journal",
    "EventKind": "journal",
    "EvictionWarning": "errors",
    "Flow": "flow_fields",
    "HandOn": "lease",
    "InvalidLimit": "errors",
    "InvalidMessage": "errors",
    "InvalidUrl": "errors",
    "JournalFull": "errors",
    "JournalPage": "journal",
    "LanewayError": "errors",
    "Lease": "lease",
    "LeaseStatus": "replies",
    "LimitUse": "flow_fields",
    "Limits": "admin",
    "Message": "message",
    "MessageInfo": "admin_replies",
    "MessageState": "replies",
    "NamedLimit": "named_limits",
    "NamedLimitState": "named_limits",
    "NewerQueue": "errors",
    "NotDurable": "errors",
    "PutCode": "replies",
    "PutResult": "replies",
    "QueueFull": "errors",
    "QueueStats": "replies",
    "RoundRobin": "round_robin",
    "ServerLost": "errors",
    "ServerTooOld": "errors",
    "StoreCode": "replies",
    "Stored": "message",
    "Stray": "replies",
    "StrayKind": "replies",
    "TaskCancelled": "errors",
    "TooLate": "errors",
    "Unique": "message",
    "UniqueMode": "message",
    "UnknownMessage": "errors",
}
"""Public name → the module that defines it."""

__all__ = [
    "AckAction",
    "AttemptEnd",
    "AttemptStart",
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
    "Flow",
    "HandOn",
    "InvalidLimit",
    "InvalidMessage",
    "InvalidUrl",
    "JournalFull",
    "JournalPage",
    "LanewayError",
    "Lease",
    "LeaseStatus",
    "LimitUse",
    "Limits",
    "Message",
    "MessageInfo",
    "MessageState",
    "NamedLimit",
    "NamedLimitState",
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
    "Stray",
    "StrayKind",
    "TaskCancelled",
    "TooLate",
    "Unique",
    "UniqueMode",
    "UnknownMessage",
]


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in _HOMES:
        raise AttributeError(f"module 'laneway.engine' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"laneway.engine.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
