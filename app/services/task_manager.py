"""The one way in: submit, status, cancel, retry, queue figures.

A task is accepted when it is in the ledger (the database) and handed to the broker. The ledger row comes
first: a crash between the two leaves a row that the steward sends, never a message that nobody knows of.
When it is delivered, in which order, and to whom again if a worker dies, is the delivery engine's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import structlog
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.core import clock
from app.core.catalog import CATALOG, TaskSpec
from app.core.config import TaskSettings
from app.core.errors import (
    BrokerUnavailable,
    Conflict,
    InvalidPayload,
    QueueFull,
    TaskExpired,
    UnknownTask,
    Unsupported,
    WrongState,
)
from app.core.logging import logger
from app.core.queues import QUEUES, Priority
from app.db.models import TaskRun
from app.db.repositories import task_runs, workers
from app.db.session import Database
from app.schemas.task import FINISHED, WAITING, CancelAnswer, Payload, QueueFigures, State, TaskHandle, TaskStatus
from app.services.broker import Broker
from laneway import Durability, Found
from laneway import State as Place

log = logger(__name__)

KEY_LIMIT = 200
"""Bytes of an ordering key; a longer one is cut, and told apart by a digest."""


class TaskManager:
    """Accepts work and answers for it."""

    def __init__(self, database: Database, broker: Broker, settings: TaskSettings) -> None:
        self._database, self._broker, self._settings = database, broker, settings

    def submit(
        self,
        task: TaskSpec | str,
        payload: Payload | dict[str, Any],
        *,
        id: str | None = None,
        priority: Priority | None = None,
        delay: float = 0,
        durability: Durability = Durability.MEMORY,
    ) -> TaskHandle:
        """Accept one task; `delay` (seconds) keeps it back, `durability` says when its message counts as queued.

        The id is the idempotency key: the same id with the same payload gives back the first handle.
        Raises UnknownTask, InvalidPayload, Conflict (same id, other payload), QueueFull, BrokerUnavailable,
        Unsupported: nothing is queued. NotDurable: it is accepted, and a repeat with the same id asks again.
        """
        spec = _spec(task)
        checked = _validated(spec, payload)
        values = _ledger_row(
            spec, checked.model_dump(mode="json", exclude_none=True), id or str(uuid4()), self._settings,
            key=getattr(checked, spec.key) if spec.key else None, priority=priority, delay=delay,
        )  # fmt: skip
        with self._database.transaction() as session:
            run = self._accept(session, values)
        if isinstance(run, TaskHandle):
            if durability is not Durability.MEMORY:
                self._confirm(run.task_id, durability)
            return run
        self._publish_or_withdraw(run, delay=delay, durability=durability)
        log.info("task accepted", task=run.name, task_id=run.id, queue=run.queue)
        return TaskHandle(task_id=run.id, state=State(run.state), created=True)

    def status(self, id: str) -> TaskStatus:
        """What is known of a task. Raises UnknownTask, or TaskExpired when it ended too long ago."""
        with self._database.reading() as session:
            run = _found(session, id)
            if run.finished_at and run.finished_at < clock.now() - timedelta(hours=self._settings.status_expiry_hours):
                raise TaskExpired(id, self._settings.status_expiry_hours)
            serving = workers.serving(session, now=clock.now()).get(run.queue, 0)
        return describe(run, waiting_for=self._waiting_for(run, serving=serving))

    def cancel(self, id: str) -> CancelAnswer:
        """Stop a task: a waiting one never runs; a running one is asked to stop at its next step.

        Raises UnknownTask, or WrongState when it is over already.
        """
        with self._database.transaction() as session:
            run = _found(session, id, lock=True)
            if task_runs.cancel_waiting(session, id, now=clock.now()):
                state = State.CANCELLED
            elif task_runs.request_cancel(session, id):
                state = State.PROCESSING
            else:
                raise WrongState(id, run.state, "cancelled")
        log.info("cancel requested", task_id=id, state=state)
        if state is State.CANCELLED:
            self._withdraw(run)
        return CancelAnswer(task_id=id, status=state, cancelled=state is State.CANCELLED)

    def retry(self, id: str) -> TaskHandle:
        """Run a finished task again, under its own id. Raises UnknownTask, WrongState, BrokerUnavailable."""
        with self._database.transaction() as session:
            run = _found(session, id, lock=True)
            if run.state not in FINISHED:
                raise WrongState(id, run.state, "retried")
            _still_valid(run)
            task_runs.reopen(session, id)
            session.refresh(run)
        self._send_anew(run)
        log.info("task retried by hand", task_id=id, task=run.name)
        return TaskHandle(task_id=id, state=State.PENDING, created=True)

    def send(self, run: TaskRun) -> bool:
        """Hand a waiting task to the broker (again), unless somebody else just did. Raises as `Broker.publish`."""
        now = clock.now()
        with self._database.transaction() as session:
            mine = task_runs.publish_again(session, run, now=now)
        if mine:
            self._broker.publish(run, delay=_time_left(run))
        return mine

    def send_or_later(self, run: TaskRun, *, delay: float = 0) -> None:
        """Hand a task to the broker; if that fails now, the steward does it."""
        try:
            self._broker.publish(run, delay=delay)
        except (BrokerUnavailable, QueueFull) as error:
            log.warning("not sent now, the steward will", task_id=run.id, error=str(error))

    def queues(self) -> dict[str, QueueFigures]:
        """Per queue: active, pending, scheduled, dead, and live workers."""
        with self._database.reading() as session:
            counts = task_runs.count_by_queue(session, now=clock.now())
            serving = workers.serving(session, now=clock.now())
        names = [*QUEUES, *sorted({queue for queue, _ in counts} - set(QUEUES))]
        return {name: _figures(name, counts, serving) for name in names}

    def live_workers(self) -> int:
        """How many workers reported lately."""
        with self._database.reading() as session:
            return len(workers.alive(session, now=clock.now()))

    def active(self, limit: int = 100) -> list[TaskStatus]:
        """What is being worked on now, newest first."""
        return self._listed([State.PROCESSING], limit=limit)

    def dead(self, *, states: Sequence[State] = (State.DEAD_LETTER,), limit: int = 100) -> list[TaskStatus]:
        """Dead letters, newest first."""
        return self._listed(states, limit=limit)

    def details(self, id: str) -> TaskRun:
        """The whole ledger row, payload and traceback included. Raises UnknownTask."""
        with self._database.reading() as session:
            return _found(session, id)

    def runs(self, ids: Sequence[str]) -> list[TaskStatus]:
        """Those of these tasks that are known, in the order of submission."""
        with self._database.reading() as session:
            return [describe(run) for run in task_runs.recent(session, ids)]

    def _listed(self, states: Sequence[State], *, limit: int) -> list[TaskStatus]:
        with self._database.reading() as session:
            return [describe(run) for run in task_runs.by_state(session, states, limit=limit)]

    def _accept(self, session: Session, values: dict[str, Any]) -> TaskRun | TaskHandle:
        known = task_runs.find(session, values["id"])
        if known is None:
            added = task_runs.add(session, **values)
            if added is not None:
                return added
            known = _found(session, values["id"])
        if known.fingerprint != values["fingerprint"]:
            raise Conflict(f"The id {known.id!r} was used before for another task or another payload.")
        task_runs.count_on(session, known.id, now=clock.now())
        return TaskHandle(task_id=known.id, state=State(known.state), created=False)

    def _publish_or_withdraw(self, run: TaskRun, *, delay: float, durability: Durability) -> None:
        try:
            self._broker.publish(run, delay=delay, durability=durability)
        except (BrokerUnavailable, QueueFull, Unsupported) as error:
            with self._database.transaction() as session:
                withdrawn = task_runs.withdraw(session, run)
            if withdrawn:
                if isinstance(error, Unsupported):  # found out when the message was there already
                    self._withdraw(run)
                raise

    def _confirm(self, id: str, durability: Durability) -> None:
        """Ask the broker again for what it did not confirm; it knows the message. A started task has had it."""
        run = self.details(id)
        if run.state in WAITING and not run.attempts:
            self._broker.publish(run, delay=_time_left(run), durability=durability)

    def _send_anew(self, run: TaskRun) -> None:
        """Send a reopened task, once its buried message is gone; if that fails now, the steward does it."""
        try:
            self._broker.discard(run.queue, run.id)
            self.send(run)
        except (BrokerUnavailable, QueueFull) as error:
            log.warning("not sent now, the steward will", task_id=run.id, error=str(error))

    def _withdraw(self, run: TaskRun) -> None:
        try:
            self._broker.withdraw(run.queue, run.id)
        except BrokerUnavailable as error:
            log.warning("its message stays, and will not be run", task_id=run.id, error=str(error))

    def _waiting_for(self, run: TaskRun, *, serving: int) -> str | None:
        if run.state not in WAITING:
            return None
        try:
            found = self._broker.find(run.queue, [run.id])
        except BrokerUnavailable:
            return "the broker, which cannot be reached"
        reason = _reason(found[0]) if found else None
        if reason:
            return reason
        if run.state == State.SCHEDULED and run.due_at and run.due_at > clock.now():
            return "its due time"
        return "a free worker" if serving else f"a worker: none serves the queue {run.queue!r}"


def _reason(found: Found | None) -> str | None:
    """Why a message is not delivered, if the reason is in the queue."""
    if found is None:
        return "being sent again: the broker does not have it"
    if found.state is Place.HELD:
        ahead = f" (task {found.behind})" if found.behind else ""
        return f"an earlier task of {found.stored.message.key}{ahead}"
    return None


def describe(run: TaskRun, *, waiting_for: str | None = None) -> TaskStatus:
    """A ledger row as callers see it."""
    return TaskStatus(
        task_id=run.id, name=run.name, status=_shown(run), progress=run.progress, message=run.progress_message,
        result=run.result, error=run.error, error_type=run.error_type, attempts=run.attempts,
        max_retries=run.max_retries, queue=run.queue, priority=run.priority, key=run.key, waiting_for=waiting_for,
        worker=run.worker, cancel_requested=run.cancel_requested, accepted_at=run.accepted_at, due_at=run.due_at,
        started_at=run.started_at, finished_at=run.finished_at,
    )  # fmt: skip


def adopted_row(spec: TaskSpec, payload: dict[str, Any], id: str, settings: TaskSettings) -> dict[str, Any]:
    """The ledger row of a task that came past the task manager; its payload may be anything, and is checked later."""
    return _ledger_row(spec, payload, id, settings, key=payload.get(spec.key) if spec.key else None)


def _ledger_row(
    spec: TaskSpec,
    data: dict[str, Any],
    id: str,
    settings: TaskSettings,
    *,
    key: Any,
    priority: Priority | None = None,
    delay: float = 0,
) -> dict[str, Any]:
    now = clock.now()
    return {
        "id": id, "name": spec.name, "queue": spec.queue,
        "priority": int(spec.priority if priority is None else priority),
        "key": _ordering_key(f"{spec.key}:{key}") if isinstance(key, str) else None,
        "payload": data, "fingerprint": _fingerprint(spec, data),
        "state": State.SCHEDULED if delay > 0 else State.PENDING,
        "max_retries": settings.max_retries if spec.max_retries is None else spec.max_retries,
        "request_id": structlog.contextvars.get_contextvars().get("request_id"),
        "accepted_at": now,
        "due_at": now + timedelta(seconds=delay) if delay > 0 else None,
        "published_at": now,
    }  # fmt: skip


def _spec(task: TaskSpec | str) -> TaskSpec:
    if isinstance(task, TaskSpec):
        return task
    if task not in CATALOG:
        raise UnknownTask(task)
    return CATALOG[task]


def validated(spec: TaskSpec, payload: dict[str, Any]) -> Payload:
    """The payload as its type. Raises InvalidPayload, naming each field and problem, never the values."""
    try:
        return spec.payload.model_validate(payload)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        problems = [f"{'.'.join(map(str, item['loc'])) or 'payload'}: {item['msg']}" for item in details]
        raise InvalidPayload(spec.name, problems) from None


def _validated(spec: TaskSpec, payload: Payload | dict[str, Any]) -> Payload:
    return payload if isinstance(payload, spec.payload) else validated(spec, dict(payload))


def _still_valid(run: TaskRun) -> None:
    """Refuse a row whose payload has been blanked since, or that the task of today would not take."""
    try:
        validated(_spec(run.name), run.payload)
    except InvalidPayload as error:
        raise WrongState(run.id, f"{run.state} and its payload is no longer kept or valid", "retried") from error


def _fingerprint(spec: TaskSpec, data: dict[str, Any]) -> str:
    return hashlib.sha256(f"{spec.name}\n{json.dumps(data, sort_keys=True)}".encode()).hexdigest()


def _found(session: Session, id: str, *, lock: bool = False) -> TaskRun:
    run = task_runs.find(session, id, lock=lock)
    if run is None:
        raise UnknownTask(id)
    return run


def _shown(run: TaskRun) -> State:
    """What is due waits like any other."""
    if run.state == State.SCHEDULED and run.due_at and run.due_at <= clock.now():
        return State.PENDING
    return State(run.state)


def _time_left(run: TaskRun) -> float:
    """Seconds until it is due."""
    return (run.due_at - clock.now()).total_seconds() if run.due_at else 0


def _ordering_key(key: str) -> str:
    raw = key.encode("utf-8", "replace")
    if len(raw) <= KEY_LIMIT:
        return key
    return f"{raw[: KEY_LIMIT - 33].decode('utf-8', 'ignore')}:{hashlib.sha256(raw).hexdigest()[:32]}"


def _figures(name: str, counts: dict[tuple[str, str], int], serving: dict[str, int]) -> QueueFigures:
    def count(*states: State) -> int:
        return sum(counts.get((name, state), 0) for state in states)

    return QueueFigures(
        lane=QUEUES.get(name, "low"), active=count(State.PROCESSING),
        pending=count(State.PENDING), scheduled=count(State.SCHEDULED),
        dead=count(State.DEAD_LETTER), workers=serving.get(name, 0),
    )  # fmt: skip
