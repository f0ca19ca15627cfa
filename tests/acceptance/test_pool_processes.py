"""Many pool processes are killed while their worker lives on: each message is answered once, and soon."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from threading import Event

import psutil

from laneway.schemas.task import TaskState
from tests.acceptance.conftest import Report
from tests.fixtures.site import LEASE, Node, running_site

KILLS = 60


def kill_some(worker: Node, chance: random.Random) -> int:
    """Kill one pool process or all of them; returns the number."""
    killed = 0
    victims = worker.children()
    for process in victims if chance.random() < 0.5 else victims[:1]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
        killed += 1
    return killed


def test_every_message_is_answered_once_while_pool_processes_are_killed(tmp_path: Path, figure: Report) -> None:
    chance, killed, ids = random.Random(5), 0, list[str]()
    with running_site(tmp_path, TASK_LEASE_SECONDS=str(LEASE), TASK_MAX_RETRIES="20") as site:
        worker = site.worker()
        while killed < KILLS:
            ids += [site.message(f"killed-{len(ids)}-{number}") for number in range(2)]
            killed += kill_some(worker, chance)
            Event().wait(chance.random() * 0.4)
            assert not worker.ended, worker.output()

        runs = site.until_all_over(ids, seconds=90)
        last = site.until(site.message("after-all-that"))

        figure("pool processes killed: tasks, of them begun again", (len(runs), sum(run.attempts > 1 for run in runs)))
        assert Counter(run.state for run in [*runs, last]) == {TaskState.COMPLETED: len(runs) + 1}
        assert "database is locked" not in worker.output()
        assert site.count_turns("assistant") == len(runs) + 1
