"""What a worker does when it starts, forks and stops."""

from __future__ import annotations

from typing import Any

from celery.signals import (
    worker_process_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from laneway.platform.errors import PlatformError
from laneway.platform.execution.shutdown import announce_shutdown
from laneway.platform.logging import logger
from laneway.platform.operations.maintenance import Maintenance
from laneway.platform.platform import Platform, current_platform, forget_platform

log = logger(__name__)

_stewards: list[Maintenance] = []


@worker_ready.connect
def start_steward(sender: Any, **_: Any) -> None:
    """Begin to look after the ledger."""
    own = current_platform()
    _prepare(own)
    queues = [queue.name for queue in sender.task_consumer.queues]
    steward = Maintenance(
        own.database,
        own.broker,
        own.tasks,
        own.recorder,
        name=str(sender.hostname),
        queues=queues,
        lease_seconds=own.settings.tasks.lease_seconds,
    )
    _stewards.append(steward)
    steward.start()


def _prepare(own: Platform) -> None:
    if own.broker.engine is None:
        log.warning(
            "without the delivery engine: no order by key, no queue limits, delays in memory",
            broker=own.settings.redis.broker_url.partition(":")[0],
        )
    try:
        own.broker.prepare()
    except PlatformError as error:
        log.warning("queue limits not set now", error=str(error))


@worker_shutting_down.connect
def stop_loops(**_: Any) -> None:
    """Loops of running tasks end at their next item, and go on elsewhere."""
    announce_shutdown()


@worker_shutdown.connect
def stop_steward(**_: Any) -> None:
    """End the steward, and sign the worker off."""
    while _stewards:
        _stewards.pop().stop()


@worker_process_init.connect
def forget_parents_connections(**_: Any) -> None:
    """A forked child makes its own services: connections must not be shared between processes."""
    inherited = current_platform()
    if "database" in inherited.__dict__:
        inherited.database.engine.dispose(close=False)  # the broker's engine knows of forks itself
    forget_platform()
