"""With TASK_ENCRYPTION=all, real workers, a killed one and a workflow: nothing that is given can be read anywhere."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from laneway.platform.workflows.definitions import checked_plan, parsed_definition
from laneway.platform.workflows.runs import StartOptions
from laneway.schemas.task import TaskState
from laneway.schemas.workflow_run import RunState
from laneway.transport.key_ring import create_ring
from tests.fixtures import handlers_for_tests as _handlers
from tests.fixtures.planted import keys_with, tables_with
from tests.fixtures.site import Site, running_site
from tests.fixtures.tasks_for_tests import ECHOING
from tests.fixtures.waiting import wait_until

assert _handlers  # importing the module registers the handlers in this process
PLANTED = "planted-4711"


def test_nothing_that_is_given_to_tasks_and_workflows_can_be_read_where_it_is_stored_or_shown(tmp_path: Path) -> None:
    ring = tmp_path / "keys.json"
    create_ring(ring)
    with running_site(tmp_path, KEY_RING_FILE=str(ring), TASK_ENCRYPTION="all") as site, seen_events(site) as events:
        first = site.worker("first", queues="conversations,workflows")
        gate = site.gate()
        running, waiting = (site.submit(ECHOING, {"text": PLANTED, "gate": str(gate)}) for _ in range(2))
        later = site.submit(ECHOING, {"text": PLANTED}, delay=3)
        by_celery = str(site.app.send_task(ECHOING.name, (PLANTED,), queue="conversations"))
        flow = start_workflow(site)
        site.until_event("began", running)
        shown = inspected(site)
        assert running in shown
        assert PLANTED not in shown
        check_nothing_is_readable(site)

        first.kill()
        second = site.worker("second", queues="conversations,workflows")
        gate.open()
        runs = site.until_all_over([running, waiting, later, by_celery])
        assert {run.state for run in runs} == {TaskState.COMPLETED}
        wait_until(lambda: site.services.workflow_views.view(flow).state is RunState.COMPLETED, seconds=40)

        assert {site.services.tasks.status(run.id).result["echo"] for run in runs} == {PLANTED}  # pyright: ignore[reportOptionalSubscript]
        assert site.services.workflow_views.view(flow).input == {"note": PLANTED}
        check_nothing_is_readable(site)
        assert PLANTED not in first.output() + second.output()
        assert any(event["type"] == "task-received" for event in events)
        assert PLANTED not in repr(events)
        assert second.stop() == 0
    for file in (tmp_path / "data").glob("laneway.db*"):
        assert PLANTED.encode() not in file.read_bytes(), file


def start_workflow(site: Site) -> str:
    steps = [{"name": "only", "handler": "noting"}]
    plan = checked_plan(
        parsed_definition("tried", {"name": "tried", "steps": steps}),
        handlers=site.services.workflow_handlers,
        inputs={},
    )
    return site.services.workflows.start_plan(plan, {"note": PLANTED}, options=StartOptions(id="flow")).workflow_id


def check_nothing_is_readable(site: Site) -> None:
    assert not keys_with(PLANTED, site.valkey)
    assert not tables_with(PLANTED, site.services.database)


def inspected(site: Site) -> str:
    """What Celery's `inspect` shows of the tasks of all workers."""
    inspect: Any = site.app.control.inspect(timeout=5)
    return repr([inspect.active(), inspect.reserved(), inspect.scheduled()])


@contextmanager
def seen_events(site: Site) -> Generator[list[dict[str, Any]]]:
    """Celery's events, as Flower receives them."""
    events: list[dict[str, Any]] = []
    stopping = threading.Event()

    def follow() -> None:
        with site.app.connection_for_read() as connection:
            receiver: Any = site.app.events.Receiver(connection, handlers={"*": events.append})
            while not stopping.is_set():
                try:
                    receiver.capture(limit=None, timeout=0.5, wakeup=False)
                except TimeoutError:
                    continue

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield events
    finally:
        stopping.set()
        thread.join(10)
