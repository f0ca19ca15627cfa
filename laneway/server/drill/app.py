"""The Celery app of a drill: one task, on a queue of its own, without results, events and remote control."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from celery import Celery
from kombu.entity import Exchange, Queue

from laneway.installation import install
from laneway.server.drill.ledger import BEGAN, ENDED, Ledger

PLAN: Final = "LANEWAY_DRILL_PLAN"
"""The variable with which a worker gets its plan. It may hold a password, so that it is no argument."""
TASK: Final = "laneway.drill.task"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process of a drill has to know."""

    broker: str
    queue: str
    lease: float
    ledger: str
    worker: str = ""
    key_ring: str | None = None
    signing: str | None = None

    def as_environment(self) -> dict[str, str]:
        """The environment of a worker."""
        return {PLAN: json.dumps(asdict(self))}


def plan_of_this_process() -> Plan:
    """The plan with which this worker was started."""
    return Plan(**json.loads(os.environ[PLAN]))


def make_app(plan: Plan) -> Celery:
    """Make the app of a process."""
    app = Celery("laneway-drill", broker=plan.broker, set_as_current=False)
    app.conf.update(
        task_queues=[Queue(plan.queue, Exchange(plan.queue, type="direct"), routing_key=plan.queue)],
        task_default_queue=plan.queue,
        task_create_missing_queues=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=3,
    )
    timeouts = {"socket_connect_timeout": 3, "socket_timeout": 5}
    install(app, lease=plan.lease, connection=timeouts, results=False, key_ring=plan.key_ring, signing=plan.signing)
    ledger = Ledger(Path(plan.ledger))

    def work(number: int, seconds: float) -> None:
        """Write the beginning, take some time, write the end."""
        ledger.write(BEGAN, number, plan.worker)
        time.sleep(seconds)
        ledger.write(ENDED, number, plan.worker)

    untyped: Any = app
    untyped.task(name=TASK)(work)
    return app
