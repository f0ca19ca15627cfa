"""Asks the workers that still run on kombu's transport who they are, what they consume and what was revoked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

PING_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class OldWorkers:
    """The workers that answered a ping. `queues`: what they consume; `revoked`: ids of tasks that must not run."""

    names: tuple[str, ...] = ()
    queues: frozenset[str] = frozenset()
    revoked: frozenset[str] = field(default_factory=frozenset[str])


def ask_workers(app: Any, *, seconds: float = PING_SECONDS) -> OldWorkers:
    """Ping the workers of this Celery app's broker, and wait so many seconds for their answers."""
    with app:
        inspect = app.control.inspect(timeout=seconds)
        answers: Mapping[str, Any] = inspect.ping() or {}
        if not answers:
            return OldWorkers()
        consumed: Mapping[str, Any] = inspect.active_queues() or {}
        revoked: Mapping[str, Any] = inspect.revoked() or {}
    return OldWorkers(
        tuple(sorted(answers)),
        frozenset(str(queue["name"]) for queues in consumed.values() for queue in queues or ()),
        frozenset(str(id) for ids in revoked.values() for id in cast("list[object]", ids or [])),
    )
