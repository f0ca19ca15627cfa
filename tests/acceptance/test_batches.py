"""A batch ends once, and submits each callback once, also if its workers are killed at the worst moments."""

from __future__ import annotations

from laneway.platform.batches.batches import NewBatch
from laneway.platform.batches.callbacks import callback_id
from laneway.platform.submission.submit_options import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.schemas.choices import BatchEvent, BatchState
from laneway.schemas.task import TaskState
from tests.fixtures.site import Site
from tests.fixtures.tasks_for_tests import ECHOING, GATED
from tests.fixtures.waiting import wait_until

TASKS = 6


def test_a_batch_survives_the_deaths_of_its_workers(site: Site) -> None:
    gate = site.gate()
    callback = Submission(ECHOING, {"text": "done"}, SubmitOptions())
    batch = NewBatch(
        tasks=[Submission(GATED, {"gate": str(gate)}, SubmitOptions(id=f"part-{n}")) for n in range(TASKS)],
        callbacks={BatchEvent.SUCCESS: callback, BatchEvent.COMPLETE: callback, BatchEvent.DEATH: callback},
    )
    site.services.batches.create(batch)
    first = site.worker("first", queues="conversations", concurrency=2)
    wait_until(lambda: len(site.events()) >= 2, seconds=30)  # two of them run
    first.kill()

    second = site.worker("second", queues="conversations", concurrency=2)
    gate.open()
    wait_until(lambda: sum(event == "ended" for event, *_ in site.events()) >= TASKS, seconds=60)
    second.kill()  # the last end may be recorded or not, and the relay may have looked or not
    site.worker("third", queues="conversations", concurrency=2)

    for event in (BatchEvent.COMPLETE, BatchEvent.SUCCESS):
        id = callback_id(batch.id, event)
        wait_until(lambda id=id: site.services.tasks.runs([id]), seconds=60)
        assert site.until(id, TaskState.COMPLETED, seconds=60).result == {"echo": "done"}
    view = site.services.batches.view(batch.id)
    assert (view.state, view.completed, view.total) == (BatchState.COMPLETED, TASKS, TASKS)
    assert site.services.tasks.runs([callback_id(batch.id, BatchEvent.DEATH)]) == []
