"""taskiq on a Redis stream, with stored results."""

from __future__ import annotations

import asyncio

from common import REDIS, SLEEP_SECONDS, Calls, main_async
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

broker = RedisStreamBroker(f"{REDIS}/0").with_result_backend(RedisAsyncResultBackend(f"{REDIS}/1"))


@broker.task
async def noop() -> int:
    """Do nothing."""
    return 1


@broker.task
async def sleep() -> int:
    """Wait as for a slow service."""
    await asyncio.sleep(SLEEP_SECONDS)
    return 1


async def ask() -> None:
    """Enqueue, and look for the result each millisecond: the library has no notice of it."""
    task = await noop.kiq()
    await task.wait_result(check_interval=0.001, timeout=60)


async def run() -> None:
    """Run with a started broker."""
    await broker.startup()
    try:
        await main_async(Calls(noop.kiq, ask, sleep.kiq))
    finally:
        await broker.shutdown()


def drive() -> None:
    """Do what the command line says."""
    asyncio.run(run())
