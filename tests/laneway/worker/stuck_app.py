"""`celery_app`, whose worker gets stuck while the file `STUCK_FILE` exists, in the way that `STUCK` says.

`silent`: it asks the broker for nothing, as if its timer were lost. `full`: it believes that it has no room.
`hangs`: its main loop does not turn.
"""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import Any

from celery.signals import worker_ready

from laneway.worker import consumer_watchdog
from tests.laneway.worker import celery_app

_tasks: Any = importlib.reload(celery_app)  # an app that no earlier test has closed
app, mark, note = _tasks.app, _tasks.mark, _tasks.note

consumer_watchdog.CHECK_SECONDS = 0.2
consumer_watchdog.STUCK_SECONDS = 3.0
consumer_watchdog.WARM_SECONDS = float(os.environ.get("WARM_SECONDS", "30"))
HOW = os.environ.get("STUCK", "silent")


def is_stuck() -> bool:
    """Whether the worker is to take nothing now."""
    return Path(os.environ["STUCK_FILE"]).exists()


@worker_ready.connect
def prepare(sender: Any, **_: Any) -> None:
    """Let the consumer of this worker get stuck when the file appears."""
    channel = sender.task_consumer.channel
    if HOW == "full":
        can_consume = channel.qos.can_consume
        channel.qos.can_consume = lambda: not is_stuck() and can_consume()
    elif HOW == "silent":
        fetch = channel.fetch
        channel.fetch = lambda: not is_stuck() and fetch()
    else:
        sender.hub.call_repeatedly(0.1, _hang)
    note_that("prepared")


def note_that(what: str) -> None:
    """Tell the test by a file beside `STUCK_FILE`."""
    Path(f"{os.environ['STUCK_FILE']}.{what}").touch()


def _hang() -> None:
    while is_stuck():
        note_that("hangs")
        time.sleep(0.05)
