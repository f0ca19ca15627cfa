"""A worker that has run many tasks keeps nothing of them in memory."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from laneway.engine import Engine, Message
from tests.laneway.worker.workers import Start, app, broker, start, wait_for

__all__ = ["app", "broker", "start"]
APP = "tests.laneway.worker.feature_app"
TASKS = 2_000
EMPTY = (
    "LeaseKeeper._held",
    "LeaseKeeper._retained",
    "QoS.held",
    "Channel.pending",
)
BODY = b'\0[[1, 2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


@pytest.mark.timeout(300)
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_keeps_nothing_of_two_thousand_tasks(app: Any, start: Start, broker: Engine, pool: str) -> None:
    start(pool, "-c", "2", "-l", "WARNING", "--prefetch-multiplier", "32")
    name = app.add.name

    def run(count: int) -> None:
        broker.put_many("celery", [Message(task_id=str(uuid4()), name=name, body=BODY) for _ in range(count)])
        wait_for(lambda: broker.stats(["celery"])[0].waiting + broker.stats(["celery"])[0].leased == 0, seconds=200)

    def sizes() -> dict[str, int]:
        return app.app.control.inspect(["w0@test"], timeout=30)._request("engine_sizes")["w0@test"]

    run(200)
    before = sizes()
    run(TASKS)
    assert broker.stats(["celery"])[0].counters["acked"] == TASKS + 200
    prefetch = 2 * 32  # kombu may still keep so many messages, in two of its containers, with 5 fields each
    wait_for(lambda: sum(sizes().values()) <= sum(before.values()) + 7 * prefetch, seconds=20)
    after = sizes()
    assert {name: after[name] for name in EMPTY} == dict.fromkeys(EMPTY, 0)
