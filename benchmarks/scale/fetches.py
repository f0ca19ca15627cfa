"""What a fetch of many queues costs the server: when nothing waits, and when everything falls due at once."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.engine_micro import Meter
from benchmarks.scale.figures import Figure
from laneway.engine import Engine, Message, RoundRobin

IDLE_TARGET_QUEUES, IDLE_TARGET_MS = 200, 0.3
LONGEST_TARGET_MS = 50.0
BATCH = 256
FETCHES = 20
"""Fetches among which the longest is looked for. The first ones find the most to do."""


def idle_fetches(engine: Engine, numbers_of_queues: list[int], *, seconds: float) -> Iterator[Figure]:
    """The server's CPU time of a fetch that finds nothing, repeated for some seconds."""
    for queues in numbers_of_queues:
        name = f"idle fetch of {queues:,} queue{'s' if queues > 1 else ''}, server CPU"
        target = IDLE_TARGET_MS if queues <= IDLE_TARGET_QUEUES else None
        try:
            lanes = RoundRobin({f"idle-{number}": 1 for number in range(queues)})
            yield Figure(name, _idle_ms(engine, lanes, seconds), "ms", target)
        except ValueError as error:
            yield Figure(name, None, "ms", target, f"refused: {str(error)[:40]}")


def _idle_ms(engine: Engine, lanes: RoundRobin, seconds: float) -> float:
    meter, calls = Meter(engine), 0
    engine.fetch(lanes, BATCH)
    before, end = meter.cpu(), time.monotonic() + seconds
    while time.monotonic() < end:
        engine.fetch(lanes, BATCH)
        calls += 1
    return (meter.cpu() - before) / calls * 1000


def longest_fetches(engine: Engine, *, queues: int, messages: int) -> Iterator[Figure]:
    """The most CPU time of the server for one fetch, when all messages fall due, and when all leases expire."""
    lanes = RoundRobin({f"due-{number}": 1 for number in range(queues)})
    due_at = round(engine.time() * 1000) + 60_000
    for queue in lanes.queues:
        engine.put_many(queue, [_message(queue, number, due_at) for number in range(messages)])
    _set_due(engine, lanes, "scheduled")
    name = f"longest fetch of {queues:,} x {messages:,} messages"
    yield Figure(f"{name} that fall due, server CPU", _longest_ms(engine, lanes), "ms", LONGEST_TARGET_MS)
    Meter(engine).command("FLUSHDB")
    for queue in lanes.queues:
        engine.put_many(queue, [_message(queue, number, None) for number in range(messages)])
        own = RoundRobin({queue: 1})
        while engine.fetch(own, BATCH).deliveries:
            pass
    _set_due(engine, lanes, "leased")
    yield Figure(f"{name} whose leases expired, server CPU", _longest_ms(engine, lanes), "ms", LONGEST_TARGET_MS)
    Meter(engine).command("FLUSHDB")


def _message(queue: str, number: int, due_at: int | None) -> Message:
    return Message(task_id=f"{queue}-{number}", name="bench.noop", eta_ms=due_at)


def _set_due(engine: Engine, lanes: RoundRobin, state: str) -> None:
    """Move the due times, or the ends of the leases, of all messages into the past: all come at once, and at no other
    time.
    """
    script = """for _, key in ipairs(KEYS) do
      for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('ZADD', key, 1, id) end
    end"""
    for queue in lanes.queues:
        engine.runner.call("EVAL", script, 1, engine.keys.key(queue, state))


def _longest_ms(engine: Engine, lanes: RoundRobin) -> float:
    meter, longest = Meter(engine), 0.0
    for _ in range(FETCHES):
        before = meter.cpu()
        engine.fetch(lanes, BATCH)
        longest = max(longest, meter.cpu() - before)
    return longest * 1000
