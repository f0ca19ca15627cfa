"""`laneway batches`."""

from __future__ import annotations

from laneway.platform.batches.batches import NewBatch
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.schemas.choices import BatchEvent
from tests.fixtures.shell import Shell

TASK = "cleanup_old_data_task"


def make(laneway: Shell) -> str:
    tasks = [Submission(TASK, {}, SubmitOptions(delay=3600)) for _ in range(2)]
    callbacks = {BatchEvent.DEATH: Submission(TASK, {}, SubmitOptions())}
    new = NewBatch(description="Invoices of April", tasks=tasks, callbacks=callbacks, is_open=True)
    return laneway.site.services.batches.create(new).batch_id


def test_a_batch_is_listed_shown_closed_and_cancelled(laneway: Shell) -> None:
    id = make(laneway)
    assert id in laneway("batches", "list", "--unfinished").out
    assert [each["batch_id"] for each in laneway("batches", "list", "--limit", "1", "--json").json()] == [id]
    shown = laneway("batches", "show", id)
    assert "Invoices of April" in shown.out and f"batch:death:{id}" in shown.out
    assert laneway("batches", "close", id, "--json").json()["state"] == "running"
    assert len(laneway("tasks", "list", "--batch", id, "--json").json()) == 2

    assert laneway("batches", "cancel", id).code != 0, "nobody has said yes"
    assert laneway("batches", "show", id, "--json").json()["waiting"] == 2
    assert "2 tasks" in laneway("batches", "cancel", id, "--yes").out
    cancelled = laneway("batches", "show", id, "--json").json()
    assert (cancelled["state"], cancelled["cancelled"]) == ("cancelled", 2)
    assert laneway("batches", "cancel", id, "--yes", "--json").json()["left"] == 0


def test_an_unknown_batch_is_an_error(laneway: Shell) -> None:
    ran = laneway("batches", "show", "none")
    assert ran.code == 1
    assert "none" in ran.err
