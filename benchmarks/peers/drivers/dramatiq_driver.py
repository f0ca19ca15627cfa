"""Dramatiq on Redis, with stored results."""

from __future__ import annotations

import time

import dramatiq
from common import REDIS, SLEEP_SECONDS, Calls, main
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=f"{REDIS}/0")
broker.add_middleware(Results(backend=RedisBackend(url=f"{REDIS}/1"), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop() -> int:
    """Do nothing."""
    return 1


@dramatiq.actor
def sleep() -> int:
    """Wait as for a slow service."""
    time.sleep(SLEEP_SECONDS)
    return 1


def drive() -> None:
    """Do what the command line says."""
    main(Calls(noop.send, lambda: noop.send().get_result(block=True, timeout=60_000), sleep.send))
