"""Tasks that run in chunks, by real workers: each stays a task of its own, whatever happens to the others."""

from __future__ import annotations

import os
import signal

import pytest

from laneway.engine import MessageState
from laneway.platform.registry import TaskSpec
from laneway.schemas.task import TaskState
from tests.fixtures.site import Site
from tests.fixtures.tasks_for_tests import FILLED, TIMED
from tests.fixtures.waiting import wait_until
from tests.laneway.worker.workers import cut

SIZE = 4
"""Of the chunks of FILLED."""


def submit(site: Site, spec: TaskSpec, number: int, **payload: str) -> list[str]:
    return [site.submit(spec, payload) for _ in range(number)]


def until_gathered(site: Site, ids: list[str]) -> None:
    wait_until(lambda: all(site.message_state(id) is MessageState.LEASED for id in ids), seconds=20)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_with_one_slot_runs_full_chunks_and_those_whose_time_is_over(site: Site, pool: str) -> None:
    ids = submit(site, FILLED, 2 * SIZE)
    site.worker("gathers", concurrency=1, pool=pool)

    runs = site.until_all_over(ids)
    assert [run.state for run in runs] == [TaskState.COMPLETED] * len(ids)
    assert [run.result for run in runs] == [{"chunk": ids[0]}] * SIZE + [{"chunk": ids[SIZE]}] * SIZE
    begun = [event.data for event in site.services.event_stream.events(ids[1]) if event.kind == "begin"]
    assert [data.get("chunk") for data in begun] == [{"id": ids[0], "size": SIZE}]

    ids = [*submit(site, TIMED, 2), *submit(site, TIMED, 1, how="fail")]
    runs = site.until_all_over(ids)
    assert [run.state for run in runs] == [TaskState.COMPLETED, TaskState.COMPLETED, TaskState.FAILED]
    assert [run.attempts for run in runs] == [1, 1, 1]
    assert [result.state for result in map(site.app.AsyncResult, ids)] == ["SUCCESS", "SUCCESS", "FAILURE"]
    assert site.app.AsyncResult(ids[0]).get(timeout=1) == {"chunk": ids[0]}
    assert [event for id in ids for event, *_ in site.events(id)] == ["in-3"] * 3

    ids = [*submit(site, TIMED, 2), *submit(site, TIMED, 1, how="raise")]
    runs = site.until_all_over(ids)
    assert [(run.state, run.attempts) for run in runs] == [(TaskState.COMPLETED, 2)] * 3


def test_a_kill_a_cancellation_a_lost_connection_and_a_warm_shutdown_lose_nothing(site: Site) -> None:
    worker = site.worker("gathers", concurrency=1)
    gate = site.gate()
    ids = submit(site, FILLED, SIZE, gate=str(gate))
    process = site.until_event(f"in-{SIZE}", ids[-1])
    os.kill(process, signal.SIGKILL)
    for id in ids:
        assert site.until_event(f"in-{SIZE}", id, attempt=2) != process
    gate.open()
    runs = site.until_all_over(ids)
    assert [(run.state, run.attempts) for run in runs] == [(TaskState.COMPLETED, 2)] * SIZE

    ids = submit(site, FILLED, SIZE - 1)
    until_gathered(site, ids)
    site.services.tasks.cancel(ids[1])
    ids += submit(site, FILLED, 1)
    assert [run.state for run in site.until_all_over(ids)] == [
        *(TaskState.COMPLETED, TaskState.CANCELLED, TaskState.COMPLETED, TaskState.COMPLETED),
    ]
    assert site.events(ids[1]) == []

    ids = submit(site, FILLED, SIZE - 1)
    until_gathered(site, ids)
    cut(site.valkey)
    worker.wait_for_output("Connected to", times=2)
    ids += submit(site, FILLED, 1)
    assert [(run.state, run.attempts) for run in site.until_all_over(ids)] == [(TaskState.COMPLETED, 1)] * SIZE

    ids = submit(site, FILLED, SIZE - 1)
    until_gathered(site, ids)
    assert worker.stop() == 0
    assert {site.message_state(id) for id in ids} == {MessageState.READY}
    site.worker("goes-on", concurrency=1)
    ids += submit(site, FILLED, 1)
    assert [(run.state, run.attempts) for run in site.until_all_over(ids)] == [(TaskState.COMPLETED, 1)] * SIZE


def test_a_time_limit_ends_the_attempts_of_all(site: Site) -> None:
    gate = site.gate()
    site.worker("limits", concurrency=1, TASK_SOFT_TIME_LIMIT="1", TASK_TIME_LIMIT="30")
    ids = submit(site, FILLED, SIZE, gate=str(gate))
    wait_until(
        lambda: {run.error for run in site.rows(ids)} == {"The task ran longer than its limit of 1 s."}, seconds=30
    )
    gate.open()
    runs = site.until_all_over(ids)
    assert {run.state for run in runs} == {TaskState.COMPLETED}
    assert min(run.attempts for run in runs) >= 2
