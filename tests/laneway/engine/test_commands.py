"""How many commands the script of each step takes for a plain message: each costs the server about 2 µs."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator

import pytest

from laneway.engine import Engine, Message, RoundRobin
from laneway.engine.engine import Delivery
from laneway.engine.replies import AckAction
from tests.laneway.engine.servers import server

CALLS = 5
QUEUE = "work"
MOST = {"put": 12, "fetch": 12, "start": 9, "finish": 9, "ack": 13, "put with a key": 16, "ack without attempts": 7}
"""The commands that each call may take; all but the last in a queue with a journal."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Generator[Engine]:
    """An engine whose server counts the commands of this module alone."""
    with server(tmp_path_factory.mktemp("valkey")) as port:
        engine = Engine.from_url(f"redis://127.0.0.1:{port}/0")
        yield engine
        engine.close()


def commands_of(engine: Engine, step: Callable[[], object]) -> float:
    """The commands of the scripts that `step` calls, for each of `CALLS` calls."""
    engine.runner.call("CONFIG", "RESETSTAT")
    step()
    stats: bytes = engine.runner.call("INFO", "commandstats")
    calls = {name: int(count) for name, count in re.findall(r"cmdstat_([\w|]+):calls=(\d+)", stats.decode())}
    return (
        sum(count for name, count in calls.items() if not name.startswith(("evalsha", "eval", "config", "info")))
        / CALLS
    )


def test_a_plain_message_takes_few_commands(alone: Engine) -> None:
    held: list[Delivery] = []
    consumer = RoundRobin({QUEUE: 1})

    def each(step: Callable[[int], object]) -> Callable[[], object]:
        return lambda: [step(number) for number in range(CALLS)]

    def fetch(_: int) -> None:
        held.extend(alone.fetch(consumer, 1, idle_poll_ms=1000).deliveries)

    put = each(lambda number: alone.put(QUEUE, Message(task_id=f"a{number}")))
    put_keyed = each(lambda number: alone.put(QUEUE, Message(task_id=f"b{number}", key=f"k{number}")))
    ack = each(lambda number: alone.ack([held[number]]))
    steps = {
        "put": put,
        "fetch": each(fetch),
        "start": each(lambda number: alone.start_attempt(held[number].lease, worker="w")),
        "finish": each(lambda number: alone.finish_attempt(held[number].lease, AckAction.DONE)),
        "ack": ack,
        "put with a key": put_keyed,
    }
    alone.enable_journal(QUEUE, 1000)
    taken = {name: commands_of(alone, step) for name, step in steps.items()}
    alone.delete(QUEUE)
    held.clear()
    put()
    each(fetch)()
    taken["ack without attempts"] = commands_of(alone, ack)
    assert {name: most for name, most in taken.items() if most > MOST[name]} == {}
