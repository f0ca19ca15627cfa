"""The Celery app of a worker of a drill: `celery -A laneway.server.drill.worker_app:app`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery.signals import worker_ready

from laneway.server.drill.app import make_app, plan_of_this_process
from laneway.server.drill.ledger import READY, Ledger

plan = plan_of_this_process()
app = make_app(plan)


@worker_ready.connect
def _note_ready(**_: Any) -> None:
    Ledger(Path(plan.ledger)).write(READY, 0, plan.worker)
