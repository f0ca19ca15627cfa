"""The workloads that are measured.

W1   one producer enqueues no-op jobs one by one
W1b  the same in bulk: by kombu's `Producer.batch`, or by the engine's `put_many` with messages from one template
W2   workers drain a full queue, with results and late acks; the rate is measured between 10 % and 95 % done
W3   warm and idle workers: enqueue one job and wait for its result, many times
W5   bytes of the server's memory per queued no-op job
"""

from __future__ import annotations

import gc
import itertools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from celery import Celery
from kombu.transport.virtual import Channel

from benchmarks.throughput.contestants import CONTESTANTS, NOOP, QUEUE, WARM_QUEUE
from benchmarks.throughput.server import Cost, Server
from benchmarks.throughput.workers import Workers
from laneway.engine import Engine, Message
from laneway.transport.codec import to_message

BATCH = 500
POLL_SECONDS = 0.02
STALL_SECONDS = 60
FROM, TO = 0.10, 0.95


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement: `value` is jobs/s, or ms for W3, or bytes for W5."""

    value: float
    cost: Cost | None = None
    more: dict[str, float] = field(default_factory=dict)


def enqueue(app: Celery, server: Server, jobs: int) -> tuple[Figure, Figure]:
    """Measure W1 and W5."""
    task = app.tasks[NOOP]
    for _ in range(max(10, jobs // 50)):  # opens connections, declares queues, fills caches
        task.apply_async(queue=WARM_QUEUE)
    task.apply_async()
    memory = server.memory()

    def put() -> None:
        for _ in range(jobs):
            task.apply_async()

    figure = _timed(server, jobs, put)
    return figure, Figure((server.memory() - memory) / jobs)


def enqueue_in_bulk(app: Celery, name: str, server: Server, jobs: int) -> Figure:
    """Measure W1b."""
    put = _engine_bulk(app, server) if CONTESTANTS[name].on_engine else _stock_bulk(app)
    put(max(10, jobs // 50))
    return _timed(server, jobs, lambda: put(jobs))


def fill(app: Celery, name: str, server: Server, jobs: int) -> None:
    """Fill the queue in bulk."""
    (_engine_bulk(app, server) if CONTESTANTS[name].on_engine else _stock_bulk(app))(jobs)


def drain(server: Server, workers: Workers, jobs: int) -> Figure:
    """Measure W2. The queue is full, and the workers wait for `consume`. Every job must store a result."""
    stored, counters, cpu = server.results(), server.counters(), workers.cpu_seconds()
    samples = [(time.perf_counter(), 0)]
    workers.consume(QUEUE)
    while samples[-1][1] < jobs:
        time.sleep(POLL_SECONDS)
        samples.append((time.perf_counter(), server.results() - stored))
        stalled_since = next(at for at, done in samples if done == samples[-1][1])
        if samples[-1][0] - stalled_since > STALL_SECONDS:
            raise SystemExit(f"The workers finish no more jobs after {samples[-1][1]} of {jobs} jobs.")
    workers.check(QUEUE)
    begin, end = _crossing(samples, FROM * jobs), _crossing(samples, TO * jobs)
    cost = server.cost(counters, jobs)
    worker_us = (workers.cpu_seconds() - cpu) / jobs * 1e6
    return Figure((TO - FROM) * jobs / (end - begin), cost, {"worker_cpu_us": worker_us})


def round_trip(app: Celery, server: Server, times: int) -> Figure:
    """Measure W3: p50 in ms, and p95 in `more`."""
    task = app.tasks[NOOP]
    for _ in range(max(5, times // 10)):
        task.apply_async(queue=WARM_QUEUE).get(timeout=30)
    counters, took = server.counters(), list[float]()
    for _ in range(times):
        start = time.perf_counter()
        task.apply_async(queue=WARM_QUEUE).get(timeout=30)
        took.append((time.perf_counter() - start) * 1000)
    took.sort()
    p95 = took[min(len(took) - 1, int(len(took) * 0.95))]
    return Figure(statistics.median(took), server.cost(counters, times), {"p95_ms": p95})


def _timed(server: Server, jobs: int, run: Callable[[], None]) -> Figure:
    gc.collect()
    counters, cpu, start = server.counters(), time.process_time(), time.perf_counter()
    run()
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    return Figure(jobs / took, server.cost(counters, jobs), {"producer_cpu_us": cpu / jobs * 1e6})


def _crossing(samples: list[tuple[float, int]], level: float) -> float:
    """When the count passed the level, by linear interpolation between the two samples around it."""
    for (before, low), (after, high) in itertools.pairwise(samples):
        if high >= level:
            return before + (after - before) * (level - low) / (high - low)
    raise AssertionError  # the last sample has all jobs


def _stock_bulk(app: Celery) -> Callable[[int], None]:
    task = app.tasks[NOOP]

    def put(jobs: int) -> None:
        with app.producer_or_acquire() as producer, producer.batch(max_size=BATCH):
            for _ in range(jobs):
                task.apply_async(producer=producer)

    return put


def _engine_bulk(app: Celery, server: Server) -> Callable[[int], None]:
    engine = Engine.from_url(str(app.conf.broker_url))
    template = _template(app)

    def put(jobs: int) -> None:
        name, body = template.name, template.body
        engine.put_many(QUEUE, [Message(task_id=str(uuid4()), name=name, body=body) for _ in range(jobs)])

    del server
    return put


def _template(app: Celery) -> Message:
    """The message that `apply_async` would put, with another id."""
    amqp: Any = app.amqp
    task_id = str(uuid4())
    made = amqp.as_task_v2(task_id, NOOP, (), {}, reply_to=app.thread_oid)
    with app.producer_or_acquire() as producer:
        channel: Channel = producer.channel
        raw: Any = channel.prepare_message(
            json.dumps(made.body), 0, "application/json", "utf-8", made.headers, dict(made.properties)
        )
    raw["properties"]["delivery_info"] = {"exchange": "", "routing_key": QUEUE}
    return to_message(raw, new_id=task_id)
