"""The platform under pytest-celery's setup: a node answers, is restarted, and loses its broker."""

from __future__ import annotations

import pytest
from pytest_celery import CeleryTestBroker, CeleryTestSetup, CeleryTestWorker

from laneway.schemas.task import TaskState
from tests.fixtures.site import Site


def test_a_message_is_answered_by_a_worker_node(celery_setup: CeleryTestSetup, site: Site) -> None:
    assert celery_setup.ready()

    id = site.message("node-answers")

    assert site.until(id).state == TaskState.COMPLETED
    assert celery_setup.app.AsyncResult(id).get(timeout=10)["conversation_id"] == "node-answers"
    worker(celery_setup).assert_log_exists("task ended")


@pytest.mark.parametrize("force", [False, True], ids=["stopped", "killed"])
def test_a_worker_node_that_was_restarted_goes_on(celery_setup: CeleryTestSetup, site: Site, *, force: bool) -> None:
    if force:
        worker(celery_setup).kill()
    waiting = [site.message(f"node-restarted-{number}") for number in range(5)]

    worker(celery_setup).restart()

    assert {run.state for run in site.until_all_over(waiting)} == {TaskState.COMPLETED}


def test_a_broker_node_that_was_killed_comes_back_with_its_messages(celery_setup: CeleryTestSetup, site: Site) -> None:
    worker(celery_setup).kill()
    before = [site.message(f"node-broker-{number}") for number in range(5)]

    broker(celery_setup).kill()
    meanwhile = site.message("node-meanwhile")
    broker(celery_setup).restart()
    worker(celery_setup).restart()

    after = site.message("node-broker-back")
    runs = site.until_all_over([*before, meanwhile, after])
    assert [(run.state, run.attempts) for run in runs] == [(TaskState.COMPLETED, 1)] * 7


def worker(setup: CeleryTestSetup) -> CeleryTestWorker:
    """The setup's only worker."""
    assert setup.worker is not None
    return setup.worker


def broker(setup: CeleryTestSetup) -> CeleryTestBroker:
    """The setup's broker."""
    assert setup.broker is not None
    return setup.broker
