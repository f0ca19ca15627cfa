"""What a worker that restarts itself says. It imports nothing of Celery: also a process that is no worker reads it.

`laneway.transport.celery_worker` takes a process for a worker that has loaded Celery's modules for workers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

TOOK_NONE: Final = "took none of"
"""How the reason of a worker begins that took no work."""

on_stuck: list[Callable[[str], object]] = []
"""Called with the reason, which completes the sentence "The worker …", before a stuck worker stops."""
