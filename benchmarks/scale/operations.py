"""What each operation costs the server in a queue of few and of many messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.engine_micro import Meter
from benchmarks.scale.figures import Figure
from laneway.engine import Engine, Message, MessageState, RoundRobin

QUEUE = "growing"
CHUNK = 5_000
ROUNDS = 5
GROWTH, SLACK_US = 2.0, 20.0
"""With the most messages, an operation may take this many times what it takes with the fewest, and these µs more."""


def operations(engine: Engine, sizes: list[int], *, calls: int) -> Iterator[Figure]:
    """The server's CPU time for one call, by the number of messages in the queue."""
    smallest: dict[str, float] = {}
    size = 0
    for wanted in sorted(sizes):
        while size < wanted:
            chunk = min(CHUNK, wanted - size)
            engine.put_many(QUEUE, [_message(number) for number in range(size, size + chunk)])
            size += chunk
        for name, call in _calls(size).items():
            took = _us(engine, call, calls)
            target = smallest[name] * GROWTH + SLACK_US if name in smallest else None
            smallest.setdefault(name, took)
            yield Figure(f"{name}, {size:,} messages, server CPU", took, "µs", target)
    Meter(engine).command("FLUSHDB")


def _message(number: int | str) -> Message:
    return Message(task_id=f"task-{number}", name="bench.noop", body=b'{"c":1}\0[[], {}, {}]')


def _calls(size: int) -> dict[str, Callable[[Engine, int], object]]:
    """The operations, each with the number of the call. After all of them the queue is as it was before."""
    lanes = RoundRobin({QUEUE: 1})

    def put(engine: Engine, number: int) -> None:
        engine.put(QUEUE, _message(f"more-{number}"))

    def find(engine: Engine, number: int) -> None:
        engine.find(QUEUE, f"task-{(size // 2 + number) % size}")

    def peek(engine: Engine, _: int) -> None:
        engine.peek(QUEUE, MessageState.READY, offset=size // 2, limit=50)

    def stats(engine: Engine, _: int) -> None:
        engine.stats([QUEUE])

    def cancel(engine: Engine, number: int) -> None:
        engine.cancel(QUEUE, f"more-{number}")

    def fetch_and_release(engine: Engine, _: int) -> None:
        engine.release(engine.fetch(lanes, 1).deliveries, counted=False)

    return {
        "put": put,
        "find": find,
        "peek of 50": peek,
        "stats": stats,
        "cancel": cancel,
        "fetch and release": fetch_and_release,
    }


def _us(engine: Engine, call: Callable[[Engine, int], object], calls: int) -> float:
    """The least of several rounds: now and then the server also enlarges its tables, or the machine is busy."""
    meter, rounds = Meter(engine), list[float]()
    for first in range(0, calls, calls // ROUNDS):
        before = meter.cpu()
        for number in range(first, first + calls // ROUNDS):
            call(engine, number)
        rounds.append((meter.cpu() - before) / (calls // ROUNDS) * 1e6)
    return min(rounds)
