"""Every accepted task is accounted for after kills of all kinds: in history, engine, results and the tasks' journal.

Producers post tasks of every kind while pool children, whole workers and the broker are killed. After that the history
must balance, must agree with the tasks' own journal, and `laneway audit` must find nothing missing.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event

import psutil
import pytest
from sqlalchemy import func, select

from laneway.platform import clock
from laneway.platform.db.models import TaskAttempt, TaskRun
from laneway.platform.errors import BrokerUnavailable, WrongState
from laneway.platform.operations.result_audit import GRACE
from laneway.platform.registry import TaskSpec
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.payload import Payload
from laneway.schemas.task import FINISHED, TaskState
from tests.fixtures.budget import budget
from tests.fixtures.site import LEASE, Node, Site, running_site
from tests.fixtures.tasks_for_tests import FAILING, GATED
from tests.fixtures.waiting import wait_until

Report = Callable[[str, object], None]

SECONDS = budget(short=6, long=12)
"""Seconds for which tasks are posted and processes are killed."""
THREADS, KEYS = 3, 4
PAUSE = 0.02
"""Seconds between two posts of one producer."""
SETTLED = 60
"""Seconds after the last kill within which every task must be finished that can be."""
WRONG = 5
"""Results that may wrongly report a failure: the worker writes it for a process that was killed after its outcome."""
CELERY_QUEUES = "conversations,webhooks,analytics"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of posted task, and the state in which it must end."""

    name: str
    state: TaskState
    spec: TaskSpec = FAILING
    times: int = 0
    how: str = "retryable"
    keyed: bool = False
    delay: float = 0
    expires: float | None = None
    queue: str | None = None
    cancelled: bool = False

    def payload(self, *, key: str, gate: str) -> Payload:
        """The payload of the task."""
        conversation = key if self.keyed else None
        fields = {"gate": gate} if self.spec is GATED else {"times": self.times, "how": self.how}
        return self.spec.payload.model_validate({**fields, "conversation_id": conversation})


KINDS = (
    Kind("succeeds", TaskState.COMPLETED),
    Kind("keyed", TaskState.COMPLETED, keyed=True),
    Kind("retried", TaskState.COMPLETED, times=1),
    Kind("keyed and retried", TaskState.COMPLETED, times=1, keyed=True),
    Kind("fails", TaskState.FAILED, times=99, how="permanent"),
    Kind("given up", TaskState.DEAD_LETTER, times=99),
    # only prefork workers serve this queue: in a thread the task would end the whole worker
    Kind("kills its process", TaskState.COMPLETED, times=1, how="kill", queue="webhooks"),
    Kind("delayed", TaskState.COMPLETED, delay=0.5),
    Kind("cancelled while it waits", TaskState.CANCELLED, delay=3600, cancelled=True),
    Kind("cancelled while it runs", TaskState.CANCELLED, spec=GATED, cancelled=True),
    Kind("expires", TaskState.EXPIRED, delay=0.6, expires=0.1),
    Kind("waits", TaskState.SCHEDULED, delay=3600),
)


@dataclass
class Books:
    """The records of the producers: tasks that were accepted, and tasks that may have been."""

    accepted: dict[str, Kind] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """The broker was down, and the caller received the error that the task is not queued."""
    keys: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Ordering key → its accepted tasks, in the order of their submission."""


class Producer:
    """Posts tasks of each kind in turn until it is stopped, and cancels those of the kinds to cancel."""

    def __init__(self, site: Site, name: str, books: Books) -> None:
        self._site, self._name, self._books = site, name, books
        self._stop, self._numbers, self._never = Event(), count(), str(site.gate("never"))

    def run(self) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            kind = KINDS[number % len(KINDS)]
            if kind.state is TaskState.SCHEDULED and number >= 2 * len(KINDS):
                continue
            if self._post(kind, id=f"{self._name}-{number}", key=f"{self._name}-{number // len(KINDS) % KEYS}"):
                self._stop.wait(PAUSE)

    def stop(self) -> None:
        self._stop.set()

    def _post(self, kind: Kind, *, id: str, key: str) -> bool:
        options = SubmitOptions(id=id, delay=kind.delay, expires=kind.expires, queue=kind.queue)
        try:
            self._site.services.tasks.submit(kind.spec, kind.payload(key=key, gate=self._never), options=options)
        except BrokerUnavailable:
            self._books.refused.add(id)
            self._stop.wait(0.1)
            return False
        self._books.accepted[id] = kind
        if kind.keyed:
            self._books.keys[key].append(id)
        if kind.cancelled:
            self._cancel(id, running=kind.spec is GATED)
        return True

    def _cancel(self, id: str, *, running: bool) -> None:
        """Cancel a task until the request is confirmed; with `running`, after the task has started."""
        until = time.monotonic() + 2
        while running and time.monotonic() < until and not self._site.events(id):
            self._stop.wait(0.05)
        while True:
            try:
                self._site.services.tasks.cancel(id)
            except BrokerUnavailable:
                Event().wait(0.1)
            except WrongState:
                return
            else:
                return


@contextmanager
def producing(site: Site) -> Generator[Books]:
    """Post tasks while the block lasts."""
    books = Books()
    producers = [Producer(site, f"p{number}", books) for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        running = [pool.submit(producer.run) for producer in producers]
        try:
            yield books
        finally:
            for producer in producers:
                producer.stop()
    for one in running:
        one.result()


class Killer:
    """Kills, in turn, a child of the prefork pool, a whole worker (which is replaced), and the broker."""

    def __init__(self, site: Site) -> None:
        self._site, self._draw = site, random.Random(7)
        self.done: Counter[str] = Counter()
        self.workers = {"prefork": self._begin("prefork"), "threads": self._begin("threads")}
        for worker in self.workers.values():
            site.until_reported(worker)

    def run(self, seconds: float) -> None:
        """Kill about once a second, and each kind of process at least once."""
        until = time.monotonic() + seconds
        for act in (self._child, self._prefork, self._broker, self._child, self._threads, self._child, self._broker):
            act()
            if time.monotonic() > until and self.done["broker"] and self.done["workers"] > 1:
                break
            wait_until(self._progress(), seconds=30)
        wait_until(lambda: time.monotonic() > until and (self.done["children"] or self._child()), seconds=seconds + 60)

    def _begin(self, pool: str) -> Node:
        queues = CELERY_QUEUES if pool == "prefork" else "conversations,analytics"
        name = f"{pool}-{sum(node.name.startswith(pool) for node in self._site.nodes)}"
        return self._site.begin_worker(name, pool=pool, queues=queues, concurrency=3)

    def _progress(self) -> Callable[[], bool]:
        """A predicate that is true as soon as more tasks have started."""
        before = len(self._site.events())
        return lambda: len(self._site.events()) > before + 15

    def _child(self) -> bool:
        """Kill a pool process that runs a task; False when none does."""
        children = {child.pid: child for child in self.workers["prefork"].children()}
        busy = [pid for *_, pid in self._site.events()[-20:] if pid in children]
        if not busy:
            return False
        try:
            children[self._draw.choice(busy)].kill()
        except psutil.NoSuchProcess:
            return False
        self.done["children"] += 1
        return True

    def _prefork(self) -> None:
        self._worker("prefork")

    def _threads(self) -> None:
        self._worker("threads")

    def _worker(self, pool: str) -> None:
        self.workers[pool].kill()
        self.workers[pool] = self._begin(pool)
        self.done["workers"] += 1

    def _broker(self) -> None:
        self._site.valkey.kill()
        self._site.valkey.start()
        self.done["broker"] += 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_accepted_task_is_accounted_for_after_kills_of_all_processes(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, figure: Report
) -> None:
    url = request.getfixturevalue("postgresql_url") if kind == "postgresql" else ""
    with running_site(tmp_path, database_url=url) as site:
        killer = Killer(site)
        with producing(site) as books:
            killer.run(SECONDS)
        last = time.monotonic()
        assert min(killer.done[what] for what in ("children", "workers", "broker")) >= 1, killer.done

        settle(site, books)
        settled = time.monotonic() - last
        running = site.submit(GATED, {"gate": str(site.gate())}, id="running")
        site.until_event("began", running)
        books.accepted[running] = Kind("runs", TaskState.PROCESSING, spec=GATED)

        states = check_history(site, books)
        check_journal(site, books)
        check_audit(site, states)
        results = check_results(site)
        figure(
            f"accounting, {kind}",
            f"{sum(states.values())} accepted ({len(books.refused)} refused), "
            f"killed {dict(killer.done)}: {states}; settled {settled:.1f} s after the last post; "
            f"{results}",
        )


def settle(site: Site, books: Books) -> None:
    """Wait until every task is finished that can be."""
    open_ones = [id for id, kind in books.accepted.items() if kind.state in FINISHED]

    def left() -> list[TaskRun]:
        return [run for run in site.rows(open_ones) if run.state not in FINISHED]

    try:
        wait_until(lambda: not left(), seconds=SETTLED + LEASE)
    except AssertionError:
        raise AssertionError([(run.id, books.accepted[run.id].name, run.state) for run in left()]) from None


def check_history(site: Site, books: Books) -> dict[str, int]:
    """Check the history alone: no task is missing, the states add up, and each task has the state of its kind."""
    site.services.recorder.catch_up()
    with site.services.database.reading() as session:
        state = {row[0]: row[1] for row in session.execute(select(TaskRun.id, TaskRun.state))}
        lost_often = set(session.scalars(select(TaskRun.id).where(TaskRun.error_type == "WorkerLost")))
        accepted = session.scalar(select(func.count()).select_from(TaskRun)) or 0
        counts = session.execute(select(TaskRun.state, func.count()).group_by(TaskRun.state))
        by_state = {row[0]: row[1] for row in counts}

    assert set(books.accepted) - set(state) == set()
    assert (
        set(state) - set(books.accepted) <= books.refused
    )  # a task may be stored although its sender received an error
    assert accepted == sum(by_state.values()) == len(state)
    wrong = {
        id: (kind.name, state[id])
        for id, kind in books.accepted.items()
        if state[id] != kind.state and not (id in lost_often and state[id] == TaskState.DEAD_LETTER)
    }
    assert wrong == {}
    assert {kind.name for kind in KINDS} == {kind.name for kind in books.accepted.values()} - {"runs"}
    return by_state


def check_journal(site: Site, books: Books) -> None:
    """Check that the tasks' own journal and the history agree."""
    with site.services.database.reading() as session:
        history = {(one.task_id, one.number): one for one in session.scalars(select(TaskAttempt))}
    noted = site.events()
    began = {(id, number) for event, id, number, _ in noted if event == "began"}
    completed = {run for run, attempt in history.items() if attempt.outcome == "completed"}

    assert began - set(history) == set(), "an attempt that ran is not in the history"
    ends = [(id, number) for event, id, number, _ in noted if event == "ended"]
    for run in ends:  # the process was killed after its last line, before it could report its outcome
        attempt = history[run]
        assert attempt.outcome == "completed" or attempt.error_type == "WorkerLost", (run, attempt.outcome)
    assert completed <= set(ends), "completed in the history, but never ended"
    assert len(completed) == len({id for id, _ in completed}), "completed twice"
    refused_to_run = {id for id, kind in books.accepted.items() if kind.name in ("expires", "cancelled while it waits")}
    assert not {id for id, _ in began} & refused_to_run
    for key, ids in books.keys.items():
        order = first_ends(ends, ids)
        assert order == [id for id in ids if id in order], f"out of order: {key}"


def first_ends(ends: Iterable[tuple[str, int]], ids: list[str]) -> list[str]:
    """The tasks in the order of their first end."""
    wanted = set(ids)
    return list(dict.fromkeys(id for id, _ in ends if id in wanted))


def check_audit(site: Site, states: dict[str, int]) -> None:
    """Check that `laneway audit` finds nothing missing and counts the same."""
    plain = site.start("audit", "laneway", "audit")
    assert plain.process.wait(60) == 0, plain.output()
    assert "unaccounted: 0" in plain.output()
    as_json = site.start("audit-json", "laneway", "audit", "--json")
    assert as_json.process.wait(60) == 0, as_json.output()
    audit = json.loads(as_json.output())
    assert audit["accepted"] == sum(states.values())
    assert {name: number for name, number in audit["by_state"].items() if number} == states
    assert (audit["unaccounted"], audit["unknown"]) == ([], [])


def check_results(site: Site) -> str:
    """Check that results agree with the history, but for killed processes, and can be restored when all are lost."""
    found = result_counts(site)
    assert found["unknown"] == 0
    wrong = [one for one in site.services.audit.run().results.named if one.kind == "contradicting"]
    assert [one for one in wrong if one.stored != "FAILURE"] == []
    assert len(wrong) <= WRONG, wrong

    site.valkey.flush(1)
    with site.services.database.reading() as session:
        ended = list(session.scalars(select(TaskRun).where(TaskRun.finished_at.is_not(None))))
    wait_until(lambda: not any(run.finished_at and run.finished_at > clock.now() - GRACE for run in ended), seconds=30)
    mended = site.services.audit.run(repair=True)
    assert (mended.unaccounted, mended.unknown) == ([], [])
    assert mended.results.repaired == sum(mended.results.found.values()) > 0
    assert sum(result_counts(site).values()) == 0
    for run in [run for run in ended if run.state == TaskState.COMPLETED][:20]:
        assert site.app.AsyncResult(run.id).get(timeout=5) == run.result
    return f"results {found}"


def result_counts(site: Site) -> dict[str, int]:
    """The counts of results in the audit."""
    return {kind.value: number for kind, number in site.services.audit.run().results.found.items()}


def test_the_audit_names_lost_tasks_and_repairs_them(site: Site) -> None:
    lost, kept = site.message("audit-lost", delay=3600), site.message("audit-kept", delay=3600)
    engine = site.services.broker.engine
    assert engine is not None
    engine.enable_journal("conversations", None)  # the removal is not recorded
    assert engine.cancel("conversations", lost).removed == 1
    engine.enable_journal("conversations", site.settings.tasks.max_unread_events)

    def missing() -> list[str]:
        return [each.task_id for each in site.services.audit.run().unaccounted]

    wait_until(missing, seconds=10)  # a message that was just sent does not count as missing
    found = site.start("audit", "laneway", "audit", "--json")
    assert found.process.wait(60) == 1, found.output()
    assert [each["task_id"] for each in json.loads(found.output())["unaccounted"]] == [lost]
    repaired = site.start("audit", "laneway", "audit", "--repair")
    assert repaired.process.wait(60) == 0, repaired.output()
    assert "unaccounted: 0 (1 repaired)" in repaired.output()
    assert missing() == []
    for id in (lost, kept):
        assert site.services.tasks.cancel(id).cancelled
