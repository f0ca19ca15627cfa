"""A real worker that consumes 1,000 queues."""

from __future__ import annotations

import random
from typing import Any

from laneway.engine import Engine
from tests.laneway.worker.workers import Start, app, broker, start, wait_for

__all__ = ["app", "broker", "start"]

QUEUES = 1_000


def test_a_worker_of_1000_queues_runs_what_comes_in_any_of_them(app: Any, start: Start, broker: Engine) -> None:
    names, chance = [f"q{number}" for number in range(QUEUES)], random.Random(7)
    before = [app.add.apply_async((number, 1), queue=name) for number, name in enumerate(chance.sample(names, 30))]
    worker = start("threads", "-c", "4", "-Q", ",".join(names), "--without-gossip", "--without-mingle")
    worker.wait_until_ready()
    assert [result.get(timeout=60) for result in before] == [number + 1 for number in range(30)]

    now = [app.add.apply_async((number, 2), queue=name) for number, name in enumerate(chance.sample(names, 30))]
    later = [app.add.apply_async((n, 3), queue=name, countdown=2) for n, name in enumerate(chance.sample(names, 30))]
    assert [result.get(timeout=60) for result in now + later] == [n + 2 for n in range(30)] + [n + 3 for n in range(30)]
    wait_for(lambda: all(queue.leased == 0 for queue in broker.stats(names)), seconds=30)
    assert worker.stop() == 0
