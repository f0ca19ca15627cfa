"""procrastinate on PostgreSQL. The verb `prepare` makes its tables."""

from __future__ import annotations

import asyncio
import sys

from common import POSTGRES, SLEEP_SECONDS, Calls, main_async
from procrastinate import App, PsycopgConnector
from procrastinate.jobs import Status

app = App(connector=PsycopgConnector(conninfo=POSTGRES, min_size=1, max_size=20))


@app.task(name="noop")
async def noop() -> None:
    """Do nothing."""


@app.task(name="sleep")
async def sleep() -> None:
    """Wait as for a slow service."""
    await asyncio.sleep(SLEEP_SECONDS)


async def ask() -> None:
    """Enqueue, and look for the end each two milliseconds: a result is not stored."""
    job = await noop.defer_async()
    while await app.job_manager.get_job_status_async(job) is not Status.SUCCEEDED:  # noqa: ASYNC110
        await asyncio.sleep(0.002)


async def put_many(count: int) -> None:
    """Enqueue by the bulk call."""
    await noop.batch_defer_async(*({} for _ in range(count)))


async def run() -> None:
    """Run with open connections."""
    async with app.open_async():
        if sys.argv[1] == "prepare":
            if not await app.check_connection_async():
                await app.schema_manager.apply_schema_async()
        else:
            await main_async(Calls(noop.defer_async, ask, sleep.defer_async, put_many))


def drive() -> None:
    """Do what the command line says."""
    asyncio.run(run())
