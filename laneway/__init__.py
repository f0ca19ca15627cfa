"""Laneway: a delivery engine for Celery on Redis or Valkey, and a task platform on top of it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laneway.engine.engine import Engine
    from laneway.installation import install
    from laneway.platform.batches.batch import Batch, batch
    from laneway.platform.execution.chunk import ChunkContext
    from laneway.platform.execution.context import Context
    from laneway.platform.flow.chunk import Chunk
    from laneway.platform.flow.task_flow import Limit
    from laneway.platform.task_decorator import task
    from laneway.results.backend import ResultBackend
    from laneway.schemas.payload import Payload
    from laneway.transport.codec import message_options
    from laneway.transport.transport import Transport

_HOMES = {
    "Chunk": "laneway.platform.flow.chunk",
    "ChunkContext": "laneway.platform.execution.chunk",
    "Batch": "laneway.platform.batches.batch",
    "Context": "laneway.platform.execution.context",
    "Engine": "laneway.engine.engine",
    "Limit": "laneway.platform.flow.task_flow",
    "Payload": "laneway.schemas.payload",
    "batch": "laneway.platform.batches.batch",
    "install": "laneway.installation",
    "ResultBackend": "laneway.results.backend",
    "Transport": "laneway.transport.transport",
    "message_options": "laneway.transport.codec",
    "task": "laneway.platform.task_decorator",
}
"""Public name → the module that defines it. The module is imported when the name is first used."""


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in _HOMES:
        raise AttributeError(f"module 'laneway' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


__all__ = [
    "Batch",
    "Chunk",
    "ChunkContext",
    "Context",
    "Engine",
    "Limit",
    "Payload",
    "ResultBackend",
    "Transport",
    "batch",
    "install",
    "message_options",
    "task",
]
