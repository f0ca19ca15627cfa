"""What a worker does when it starts, forks and stops."""

from __future__ import annotations

from typing import Any

from celery.signals import (
    worker_process_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from app.core.errors import PlatformError
from app.core.logging import logger
from app.services.container import Services, services
from app.services.steward import Steward
from app.tasks.shutdown import announce_shutdown

log = logger(__name__)

_stewards: list[Steward] = []


@worker_ready.connect
def start_steward(sender: Any, **_: Any) -> None:
    """Begin to look after the ledger."""
    own = services()
    _prepare(own)
    queues = [queue.name for queue in sender.task_consumer.queues]
    steward = Steward(
        own.database, own.broker, own.tasks, own.history, name=str(sender.hostname), queues=queues,
        lease_seconds=own.settings.tasks.lease_seconds,
    )  # fmt: skip
    _stewards.append(steward)
    steward.start()


def _prepare(own: Services) -> None:
    if own.broker.engine is None:
        log.warning("without the delivery engine: no order by key, no queue limits, delays in memory",
                    broker=own.settings.redis.broker_url.partition(":")[0])  # fmt: skip
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
    inherited = services()
    if "database" in inherited.__dict__:
        inherited.database.engine.dispose(close=False)  # the broker's engine knows of forks itself
    services.cache_clear()
