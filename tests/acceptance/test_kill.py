"""Processes are killed and stopped while they work: no accepted task is lost, and none is done twice."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from threading import Event

import httpx
import pytest
from celery.states import READY_STATES
from psycopg import sql
from sqlalchemy import func, select

from app.db.models import Message, WebhookEvent
from app.db.queries import webhooks
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.schemas.task import UNFINISHED, TaskState
from tests.fixtures.databases import PostgresServer
from tests.fixtures.site import LEASE, Node, Site, running_site
from tests.fixtures.tasks_for_tests import FAILING, GATED, GATED_QUIETLY
from tests.fixtures.waiting import wait_until

Report = Callable[[str, object], None]

GRACE = 5
"""Seconds within which the work of a dead worker is done, after its leases expired and another worker is ready."""


def ended(site: Site, id: str) -> int:
    """How often a task for tests ran to its end."""
    return sum(event == "ended" for event, *_ in site.events(id))


def test_a_task_of_a_killed_process_is_run_by_another_and_a_poison_task_becomes_a_dead_letter(
    site: Site, figure: Report
) -> None:
    worker = site.worker()
    poison = site.submit(FAILING, {"times": 99, "how": "kill"})
    gate = site.gate()
    id = site.submit(GATED, {"gate": str(gate)})
    began = time.monotonic()

    with ThreadPoolExecutor(1) as waiting:
        celerys_own = waiting.submit(site.app.AsyncResult(id).get, timeout=60)
        psutil_kill(site, id)
        site.until_event("began", id, attempt=2)
        figure("killed child: task running again after", f"{time.monotonic() - began:.1f} s")
        gate.open()

        run = site.until(id)
        assert celerys_own.result(20) == run.result, "a caller of Celery's was told of a failure"
    assert (run.state, run.attempts, ended(site, id)) == (TaskState.COMPLETED, 2, 1)
    assert run.error is None
    dead = site.until(poison)
    assert (dead.state, dead.attempts, dead.error_type) == (TaskState.DEAD_LETTER, 4, "WorkerLost")
    assert len(site.events(poison)) == 4
    assert not worker.ended
    assert site.until(site.message("after-poison")).state == TaskState.COMPLETED


@pytest.mark.parametrize("conversation", [None, "kept-in-order"])
def test_a_task_whose_process_dies_while_the_broker_is_down_is_run_again(site: Site, conversation: str | None) -> None:
    worker = site.worker()
    gate = site.gate()
    id = site.submit(GATED_QUIETLY, {"gate": str(gate), "conversation_id": conversation})
    site.until_event("began", id)

    worker.signal(signal.SIGSTOP)  # it notices both at the same time
    psutil_kill(site, id)
    site.valkey.kill()
    worker.signal(signal.SIGCONT)
    worker.wait_for_output("broke")
    site.valkey.start()
    site.until_event("began", id, attempt=2)
    assert site.app.AsyncResult(id).state not in READY_STATES, "a caller of Celery's would be told of a failure"
    gate.open()

    run = site.until(id)
    assert (run.state, ended(site, id)) == (TaskState.COMPLETED, 1), run.error
    assert [event for event, *_ in site.events(id)] == ["began", "began", "ended"]
    assert not worker.ended


def psutil_kill(site: Site, id: str) -> None:
    """Kill the pool process that runs a task, and no other process."""
    pid = site.until_event("began", id)
    worker = next(node for node in site.nodes if pid in {child.pid for child in node.children()})
    next(child for child in worker.children() if child.pid == pid).kill()


def test_another_worker_does_the_running_held_and_waiting_tasks_of_a_killed_worker(site: Site, figure: Report) -> None:
    first = site.worker("first")
    gate = site.gate()
    running = [site.submit(GATED, {"gate": str(gate)}) for _ in range(2)]
    for id in running:
        site.until_event("began", id)
    waiting = [site.message(f"killed-{number}") for number in range(30)]
    second = site.worker(
        "second", "--prefetch-multiplier", "4"
    )  # it prefetches more than it can start, and dies with these messages
    site.until_all_over(waiting[:10])
    stuck = [site.submit(GATED_QUIETLY, {"gate": str(gate)}) for _ in range(10)]
    site.until(stuck[1], TaskState.PROCESSING)

    first.kill()
    second.kill()
    killed = time.time()
    gate.open()
    site.worker("third")
    ready = time.time()

    runs = site.until_all_over([*running, *waiting, *stuck], seconds=60)
    done = max(map(finish, runs))
    figure(
        "killed workers: all done after", f"{done - killed:.1f} s of the kill, {done - ready:.1f} s of another's start"
    )
    assert {run.state for run in runs} == {TaskState.COMPLETED}
    assert [ended(site, id) for id in [*running, *stuck]] == [1] * 12
    assert [run.attempts for run in site.rows(running)] == [2, 2]
    assert all(
        [turn.role for turn in site.turns(f"killed-{number}")] == ["customer", "assistant"] for number in range(30)
    )
    assert done < max(killed + LEASE, ready) + GRACE


def finish(run: TaskRun) -> float:
    assert run.finished_at is not None
    return run.finished_at.timestamp()


def stopped_between_writes(site: Site, node: Node) -> bool:
    """Stop the processes of a worker. False if one of them holds SQLite's write lock: it continues then."""
    node.signal(signal.SIGSTOP, family=True)
    with closing(sqlite3.connect(site.folder / "data" / "laneway.db", timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            node.signal(signal.SIGCONT, family=True)
            return False
        connection.execute("ROLLBACK")
    return True


def test_the_outcome_of_a_worker_that_was_stopped_past_its_lease_is_refused(site: Site) -> None:
    stopped = site.worker("stopped", concurrency=1)
    gate = site.gate()
    id = site.submit(GATED_QUIETLY, {"gate": str(gate)})
    site.until_event("began", id)

    wait_until(lambda: stopped_between_writes(site, stopped), seconds=30)
    site.worker("other")
    site.until_event("began", id, attempt=2)
    gate.open()
    run = site.until(id)
    stopped.signal(signal.SIGCONT, family=True)

    stopped.wait_for_output("outcome refused")
    assert (run.state, run.attempts) == (TaskState.COMPLETED, 2)
    after = site.row(id)
    assert (after.state, after.attempts, after.finished_at) == (TaskState.COMPLETED, 2, run.finished_at)
    assert str(run.worker).startswith("other@")
    wait_until(lambda: site.services.tasks.queues()["conversations"].active == 0, seconds=5)
    assert site.until(site.message("after-stop")).state == TaskState.COMPLETED


class Poster:
    """Posts messages as fast as possible until it is stopped, and records those that were accepted."""

    def __init__(self, site: Site, name: str) -> None:
        self.accepted: list[tuple[str, str, str]] = []
        """(conversation, message, task)"""
        self.kept = 0
        """The number of messages that were accepted while the broker was down."""
        self.refused: Counter[str] = Counter()
        self._site, self._name, self._stop, self._numbers = site, name, Event(), count()

    def run(self) -> None:
        with httpx.Client(base_url=self._site.http.base_url, timeout=20, trust_env=False) as client:
            while not self._stop.is_set():
                number = next(self._numbers)
                body = {
                    "conversation_id": f"{self._name}-{number % 20}",
                    "message": "How long is the warranty?",
                    "message_id": f"m{number}",
                }
                try:
                    answer = client.post("/conversations/message", json=body)
                except httpx.HTTPError as error:
                    self.refused[type(error).__name__] += 1
                    self._stop.wait(0.05)
                    continue
                if answer.status_code < 300:
                    self.accepted.append((body["conversation_id"], body["message_id"], answer.json()["task_id"]))
                    self.kept += answer.json()["status"] == TaskState.ACCEPTED
                else:
                    self.refused[str(answer.status_code)] += 1

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def posting(site: Site, name: str, *, threads: int = 4) -> Generator[Poster]:
    """Post messages while the block lasts."""
    poster = Poster(site, name)
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(poster.run) for _ in range(threads)]
        try:
            yield poster
        finally:
            poster.stop()
    for one in running:
        one.result()


def unfinished(site: Site) -> int:
    """The number of accepted messages that are not finished."""
    open_ones = select(func.count()).where(
        TaskRun.name == "process_conversation_message_task", TaskRun.state.in_(UNFINISHED)
    )
    with site.services.database.reading() as session:
        return session.scalar(open_ones) or 0


def check_every_accepted_message_was_answered_once(site: Site, poster: Poster) -> None:
    """Check that each accepted message has one completed task, one stored question and one stored reply."""
    runs = site.until_all_over([task for *_, task in poster.accepted], seconds=90)
    assert len(runs) == len(poster.accepted)
    assert Counter(run.state for run in runs) == {TaskState.COMPLETED: len(runs)}
    wait_until(
        lambda: unfinished(site) == 0, seconds=30
    )  # a message may be stored although its sender received an error
    with site.services.database.reading() as session:
        roles: dict[str, Counter[str | None]] = {"customer": Counter(), "assistant": Counter()}
        for role, task in session.execute(select(Message.role, Message.task_id)):
            roles[role][task] += 1
        known = session.scalar(select(func.count()).select_from(TaskRun).where(TaskRun.state == TaskState.COMPLETED))
    for task in (task for *_, task in poster.accepted):
        assert (roles["customer"][task], roles["assistant"][task]) == (1, 1)
    assert len(roles["customer"]) == len(roles["assistant"])
    assert known is not None
    assert known >= len(runs)


def test_a_broker_killed_under_load_loses_no_message(site: Site, figure: Report) -> None:
    site.api()
    site.worker()
    with posting(site, "broker") as poster:
        wait_until(lambda: len(poster.accepted) > 30, seconds=30)
        site.valkey.kill()
        wait_until(lambda: poster.kept > 20, seconds=30)
        site.valkey.start()
        back, kept = time.monotonic(), poster.kept
        wait_until(lambda: len(poster.accepted) - poster.kept > 40, seconds=30)
        figure("broker killed: kept for it", f"{kept}, and {poster.kept - kept} after its return")

    check_every_accepted_message_was_answered_once(site, poster)
    figure("broker killed: accepted and answered once", len(poster.accepted))
    figure("broker killed: all over after", f"{time.monotonic() - back:.1f} s of its return")
    assert not poster.refused


def test_a_worker_killed_between_a_webhook_and_its_events_tasks_loses_none_and_repeats_none(site: Site) -> None:
    total, delivery = 150, "killed-delivery"
    body = [{"id": f"killed-{number}", "type": "order.paid"} for number in range(total)]
    with site.services.database.transaction() as session:
        webhooks.store(session, delivery, source="killed", body=body, now=clock.now())
    first = site.worker("first", queues="webhooks", concurrency=1)
    id = site.services.tasks.submit("process_generic_webhook_task", {"delivery_id": delivery}).task_id
    wait_until(lambda: _follow_ups(site)[0] >= 3, seconds=60)
    first.kill()

    before, _ = _follow_ups(site)
    assert before < total, "the worker was killed too late to show anything"
    site.worker("second", queues="webhooks", concurrency=1)
    run = site.until(id, seconds=120)
    assert (run.state, run.attempts) == (TaskState.COMPLETED, 2)
    assert _follow_ups(site) == (total, total)


def _follow_ups(site: Site) -> tuple[int, int]:
    """The number of this delivery's events that have a task, and of tasks that events have."""
    with site.services.database.reading() as session:
        events = session.scalars(select(WebhookEvent.task_id).where(WebhookEvent.source == "killed")).all()
        ids = [id for id in events if id is not None]
        found = session.scalar(
            select(func.count()).select_from(TaskRun).where(TaskRun.name == "process_manipulator_interaction_task")
        )
    assert len(set(ids)) == len(ids)
    return len(ids), found or 0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_accepted_message_is_answered_once_when_all_processes_are_killed_under_load(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, figure: Report
) -> None:
    url = empty_database(request.getfixturevalue("postgresql_server")) if kind == "postgresql" else ""
    with running_site(tmp_path, embedded=True, database_url=url, TASK_LEASE_SECONDS=str(LEASE)) as site:
        processes(site)
        with posting(site, kind) as poster:
            wait_until(lambda: len(poster.accepted) > 40, seconds=60)
            site.end_nodes()
            wait_until(lambda: sum(poster.refused.values()) > 3, seconds=30)
        accepted = len(poster.accepted)
        before = site.states([task for *_, task in poster.accepted])
        begun = time.monotonic()
        processes(site)
        figure(f"{kind}, all killed: ready again after", f"{time.monotonic() - begun:.1f} s")

        check_every_accepted_message_was_answered_once(site, poster)
        figure(
            f"{kind}, all killed: {accepted} accepted ({before} at the kill), all over after",
            f"{time.monotonic() - begun:.1f} s of the restart",
        )


def empty_database(server: PostgresServer) -> str:
    """A PostgreSQL database without tables; the platform creates them."""
    server.run(sql.SQL("CREATE DATABASE {}").format(sql.Identifier("killed")))
    return server.url("killed")


def processes(site: Site) -> None:
    """Start the broker, a worker and the API by their commands, which takes less time than `laneway up`."""
    site.broker()
    worker = site.start("worker", "laneway", "worker", "--queue", "conversations", "--name", "worker", "-c", "2")
    site.api()
    site.until_reported(worker)
