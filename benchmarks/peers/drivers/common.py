"""What each Python driver does with its library: `drive.py MODULE VERB COUNT` prints one line of JSON.

    one COUNT     enqueue no-op jobs one by one                        seconds, cpu_seconds
    bulk COUNT    the same by the library's bulk call                  seconds, cpu_seconds
    fill COUNT    the same in any way, not measured
    sleep COUNT   enqueue jobs that sleep for 50 ms, not measured
    ask COUNT     enqueue a job and wait for its result, COUNT times   ms: one number for each
    crowd COUNT   enqueue no-op jobs by 20 callers at once             seconds, cpu_seconds, ms

A driver runs with its peer's own Python and knows nothing of the project. `BENCH_REDIS` is the server's URL without a
database (0 holds jobs, 1 results), `BENCH_POSTGRES` the URL of a database.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

REDIS, POSTGRES = os.environ.get("BENCH_REDIS", ""), os.environ.get("BENCH_POSTGRES", "")
SLEEP_SECONDS, BATCH, CALLERS, WARM = 0.05, 500, 20, 20


@dataclass
class Calls:
    """How a library enqueues. All are functions, or all are coroutine functions."""

    put: Callable[[], Any]
    ask: Callable[[], Any]
    sleep: Callable[[], Any]
    put_many: Callable[[int], Any] | None = None
    """Enqueue so many jobs by one call, if the library has such a call."""


def main(calls: Calls) -> None:
    """Do what the command line says, with functions."""
    verb, count = sys.argv[1], int(sys.argv[2])
    if verb == "ask":
        for _ in range(WARM):
            calls.ask()
        answer: dict[str, Any] = {"ms": [timed(calls.ask) for _ in range(count)]}
    elif verb == "sleep":
        answer = {"seconds": repeat(calls.sleep, count)}
    elif calls.put_many and verb in ("bulk", "fill"):
        calls.put_many(WARM)
        many = calls.put_many
        answer = measured(lambda: [many(size) for size in batches(count)])
    else:
        repeat(calls.put, WARM)
        answer = measured(lambda: repeat(calls.put, count))
    print(json.dumps(answer))


async def main_async(calls: Calls) -> None:
    """Do what the command line says, with coroutines."""
    verb, count = sys.argv[1], int(sys.argv[2])
    cpu, start = time.process_time(), time.perf_counter()
    answer: dict[str, Any] = {}
    if verb == "ask":
        await repeat_async(calls.ask, WARM)
        answer["ms"] = await repeat_async(calls.ask, count)
    elif verb == "sleep":
        await repeat_async(calls.sleep, count)
    else:
        await (calls.put_many(WARM) if calls.put_many and verb != "one" else repeat_async(calls.put, WARM))
        cpu, start = time.process_time(), time.perf_counter()
        if verb == "crowd":
            parts = await asyncio.gather(*(repeat_async(calls.put, count // CALLERS) for _ in range(CALLERS)))
            answer["ms"] = [each for part in parts for each in part]
        elif calls.put_many and verb in ("bulk", "fill"):
            for size in batches(count):
                await calls.put_many(size)
        else:
            await repeat_async(calls.put, count)
    answer |= {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    print(json.dumps(answer))


def batches(count: int) -> list[int]:
    """The sizes of the bulk calls for so many jobs."""
    return [min(BATCH, count - done) for done in range(0, count, BATCH)]


def measured(run: Callable[[], Any]) -> dict[str, Any]:
    """The seconds and CPU seconds that it takes."""
    cpu, start = time.process_time(), time.perf_counter()
    run()
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}


def timed(call: Callable[[], Any]) -> float:
    """The milliseconds of one call."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000


def repeat(call: Callable[[], Any], count: int) -> float:
    """Call it so many times; returns the seconds."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - start


async def repeat_async(call: Callable[[], Awaitable[Any]], count: int) -> list[float]:
    """Await it so many times; returns the milliseconds of each."""
    taken: list[float] = []
    for _ in range(count):
        start = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - start) * 1000)
    return taken
