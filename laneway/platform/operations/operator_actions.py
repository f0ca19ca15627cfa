"""What operators do with many tasks at once, each with its entry in the audit log.

`between` is called between two steps of what may take long. If it raises, the work stops there; the next one goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from laneway.platform import clock
from laneway.platform.flow.queue_limits import NoSuchQueue
from laneway.platform.operations.audit_views import audit_view
from laneway.platform.queues import queues as declared
from laneway.schemas.maintenance import CleanupResponse, FlushResponse, RetentionView

if TYPE_CHECKING:
    from laneway.platform.platform import Platform
    from laneway.schemas.audit import AuditView


def _nothing() -> None:
    return None


def flush(platform: Platform, queue: str, *, dry_run: bool) -> FlushResponse:
    """Cancel the waiting tasks of a queue, or only count them. The queue may be one that is not declared.

    Raises NoSuchQueue, Unsupported without the engine, BrokerUnavailable.
    """
    platform.broker.require_engine("emptying a queue")
    if queue not in declared and queue not in {unknown.queue for unknown in platform.unknown_queues.look()}:
        raise NoSuchQueue(queue, list(declared))
    waiting = sum(stats.waiting for stats in platform.broker.stats([queue]) or ())
    cancelled = 0 if dry_run else platform.tasks.flush(queue)
    return FlushResponse(queue=queue, waiting=waiting, cancelled=cancelled, dry_run=dry_run)


def take_in(platform: Platform, queue: str) -> int:
    """Queue the tasks that other programs have sent under a name; returns how many. Raises BrokerUnavailable."""
    platform.audit_log.record("queue.take_in", ("queue", queue))
    return platform.intake.take(queue)


def clean_up(
    platform: Platform, *, tasks_older_than: float | None, between: Callable[[], None] = _nothing
) -> CleanupResponse:
    """Delete all data that is older than its retention period, which for tasks may be given in seconds."""
    hours = None if tasks_older_than is None else tasks_older_than / 3600
    platform.audit_log.record("history.cleanup", ("history", "all"), after={"tasks_older_than_hours": hours})
    counts = platform.retention.sweep(now=clock.now(), task_hours=hours, progress=lambda _share, _text: between())
    return CleanupResponse(deleted=counts)


def preview_cleanup(platform: Platform, *, tasks_older_than: float | None) -> RetentionView:
    """Say which rule holds for which tasks, and how many tasks `clean_up` would delete."""
    hours = None if tasks_older_than is None else tasks_older_than / 3600
    return platform.retention.preview(now=clock.now(), task_hours=hours)


def audit(platform: Platform, *, repair: bool, between: Callable[[], None] = _nothing) -> AuditView:
    """Compare history, engine and results, and repair what differs if asked to.

    Raises BrokerUnavailable, DatabaseUnavailable, ResultStoreUnavailable.
    """
    if repair:
        platform.audit_log.record("history.repair", ("history", "all"))
    return audit_view(platform.audit.run(repair=repair, between=between))
