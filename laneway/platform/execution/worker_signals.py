"""What the platform does when a Celery worker starts, forks a child and stops."""

from __future__ import annotations

import sys
from typing import Any

from celery.signals import (
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from laneway.platform import tracing
from laneway.platform.current import current_platform, drop_inherited_platform
from laneway.platform.db.schema_versions import OldSchema
from laneway.platform.errors import ConfigError, PlatformError
from laneway.platform.execution.shutdown import announce_shutdown
from laneway.platform.logging import logger
from laneway.platform.operations.installation import ForeignBroker
from laneway.platform.operations.maintenance import Maintenance
from laneway.platform.platform import Platform
from laneway.worker.stuck import on_stuck

log = logger(__name__)

_running_maintenance: list[Maintenance] = []


@worker_init.connect
def refuse_foreign_servers(**_: Any) -> None:
    """End a worker whose broker belongs to another installation, whose tables are too old, or that cannot trace."""
    platform = current_platform()
    try:
        tracing.start(platform.settings.tracing)
        platform.schema_versions.check()
        platform.installation.check_broker()
    except (ConfigError, ForeignBroker, OldSchema) as error:
        sys.exit(str(error))
    except PlatformError as error:  # the worker waits for the database
        log.warning("not known whose broker it is, and of which version the tables are", error=str(error))
    finally:
        platform.close()  # no connection may be open while the pool forks its children


@worker_ready.connect
def start_maintenance(sender: Any, **_: Any) -> None:
    """Prepare the queues, and start the maintenance threads of this worker."""
    platform = current_platform()
    _prepare_broker(platform)
    log.debug("workflows", known=len(platform.workflow_definitions.plans))  # reading them logs those that are broken
    maintenance = Maintenance(
        platform.database,
        platform.broker,
        platform.tasks,
        platform.recorder,
        platform.reconciliation,
        name=str(sender.hostname),
        queues=[queue.name for queue in sender.task_consumer.queues],
        lease_seconds=platform.settings.tasks.lease_seconds,
        watch_schedules=platform.alerts.watch_schedules,
        watch_schema=platform.schema_versions.report_newer,
        take_sample=platform.queue_samples.take_if_due,
        send_events=platform.event_webhooks.send,
        data_folder=platform.settings.storage.folder,
    )
    _running_maintenance.append(maintenance)
    on_stuck.append(maintenance.note_stuck)
    maintenance.start()


def _prepare_broker(platform: Platform) -> None:
    """Set the limits of the queues. The worker starts even if the broker cannot be reached now."""
    if platform.broker.engine is None:
        log.warning(
            "without the delivery engine: no order by key, no queue limits, delays in memory",
            broker=platform.settings.redis.broker_url.partition(":")[0],
        )
    try:
        platform.broker.prepare()
    except PlatformError as error:
        log.warning("queue limits not set now", error=str(error))


@worker_shutting_down.connect
def stop_loops(**_: Any) -> None:
    """Stop the loops (`Context.loop`) of running tasks at their next item. They continue on another worker."""
    announce_shutdown()


@worker_shutdown.connect
def stop_maintenance(**_: Any) -> None:
    """Stop the maintenance threads and remove the worker from the list of live workers."""
    on_stuck.clear()
    while _running_maintenance:
        _running_maintenance.pop().stop()
    tracing.stop()


@worker_process_shutdown.connect
def send_last_spans(**_: Any) -> None:
    """Send the spans of a pool process that ends."""
    tracing.stop()


@worker_process_init.connect
def drop_inherited_connections(**_: Any) -> None:
    """A pool process makes connections of its own."""
    drop_inherited_platform()
