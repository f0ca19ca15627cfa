"""Tasks that take several slots of a worker: light ones neither run beside them nor overtake them."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from laneway.engine import MessageState
from laneway.schemas.task import TaskState
from tests.fixtures.heavy_app import ALONE, HEAVY, LIGHT
from tests.fixtures.site import Site
from tests.fixtures.waiting import wait_until
from tests.laneway.worker.workers import cut

APP = "tests.fixtures.heavy_app"


def slots(site: Site) -> dict[str, int]:
    replies: Any = site.app.control.inspect(timeout=30, limit=1).stats()
    return next(iter(replies.values()))["slots"]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_heavy_task_waits_for_its_slots_and_is_not_overtaken(site: Site, pool: str) -> None:
    first, others = site.gate("first"), site.gate("others")
    light = [site.submit(LIGHT, {"gate": str(gate)}) for gate in (first, others)]
    site.worker("w", queues="analytics", concurrency=4, pool=pool, app=APP)
    for id in light:
        site.until_event("began", id)
    heavy = site.submit(HEAVY, {"gate": str(others)})
    wait_until(lambda: site.message_state(heavy) is MessageState.LEASED, seconds=20)
    later = [site.submit(LIGHT, {"gate": str(others)}), site.submit(ALONE, {"gate": str(others)})]
    last = site.submit(LIGHT, {"gate": str(others)})
    assert slots(site) == {"size": 4, "used": 2, "waiting": 1}
    assert site.message_state(later[0]) is MessageState.READY, "another worker may have it"

    first.open()
    site.until_event("began", heavy)
    assert slots(site)["used"] == 4
    assert not [event for id in later for event in site.events(id)]

    others.open()
    runs = site.until_all_over([*light, heavy, *later, last])
    assert {run.state for run in runs} == {TaskState.COMPLETED}
    names = [(event, task) for event, task, *_ in site.events() if task in (heavy, *later, last)]
    alone = names.index(("began", later[1]))
    assert names[alone + 1] == ("ended", later[1])
    assert names.index(("ended", later[0])) < alone < names.index(("began", last))
    wait_until(lambda: slots(site) == {"size": 4, "used": 0, "waiting": 0}, seconds=10)


def test_slots_are_free_again_after_a_kill_and_a_lost_connection(site: Site) -> None:
    gate = site.gate()
    heavy, other = (site.submit(HEAVY, {"gate": str(gate)}) for _ in range(2))
    worker = site.worker("w", queues="analytics", concurrency=4, app=APP)
    os.kill(site.until_event("began", heavy), signal.SIGKILL)
    site.until_event("began", other)
    cut(site.valkey)
    worker.wait_for_output("Connected to", times=2)
    gate.open()
    assert {run.state for run in site.until_all_over([heavy, other])} == {TaskState.COMPLETED}
    wait_until(lambda: slots(site) == {"size": 4, "used": 0, "waiting": 0}, seconds=10)
