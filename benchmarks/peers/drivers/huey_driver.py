"""Huey on Redis, with stored results and its notice of a result."""

from __future__ import annotations

import time

from common import REDIS, SLEEP_SECONDS, Calls, main
from huey import RedisHuey

huey = RedisHuey("bench", url=f"{REDIS}/0", notify_result=True)


@huey.task()
def noop() -> int:
    """Do nothing; Huey stores no None."""
    return 1


@huey.task()
def sleep() -> int:
    """Wait as for a slow service."""
    time.sleep(SLEEP_SECONDS)
    return 1


def drive() -> None:
    """Do what the command line says."""
    main(Calls(noop, lambda: noop().get(blocking=True, timeout=60), sleep))
