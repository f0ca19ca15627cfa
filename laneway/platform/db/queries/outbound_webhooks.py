"""Queries over outbound webhooks: endpoints, deliveries, attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from laneway.platform.db.models import OutboundAttempt, OutboundDelivery, OutboundEndpoint, TaskRun
from laneway.platform.db.queries.backwards import Found, read_backwards
from laneway.schemas.task import TaskState

ENABLED, DISABLED = "enabled", "disabled"
OPERATOR = "operator"
"""`OutboundEndpoint.reason` of an endpoint that an operator disabled."""
STATE: ColumnElement[str] = func.coalesce(TaskRun.state, OutboundDelivery.state)
"""The state of a delivery: the state of its task while the task is kept, later the state after its last attempt."""
Logged = tuple[OutboundDelivery, TaskState]
"""A delivery with its state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Selects deliveries; a field that is not set selects all. Times are those of the first attempt."""

    endpoint: str | None = None
    event: str | None = None
    states: tuple[TaskState, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def clauses(self) -> list[ColumnElement[bool]]:
        """The filter as conditions on `OutboundDelivery` and `STATE`."""
        found: list[ColumnElement[bool]] = []
        if self.endpoint is not None:
            found.append(OutboundDelivery.endpoint_id == self.endpoint)
        if self.event is not None:
            found.append(OutboundDelivery.event == self.event)
        if self.states:
            found.append(STATE.in_(self.states))
        if self.since is not None:
            found.append(OutboundDelivery.created_at >= self.since)
        if self.until is not None:
            found.append(OutboundDelivery.created_at < self.until)
        return found


def touch_endpoint(session: Session, id: str, *, url: str, now: datetime) -> OutboundEndpoint:
    """Add an endpoint, or update the time at which it was last used; returns its row, locked."""
    found = find_endpoint(session, id, lock=True)
    if found is None:
        values = {"id": id, "url": url, "state": ENABLED, "consecutive_failures": 0, "created_at": now, "seen_at": now}
        try:
            with session.begin_nested():
                session.execute(insert(OutboundEndpoint).values(**values))
        except IntegrityError:
            pass  # another transaction inserted it first; the row exists now and can be locked
        found = session.scalars(_endpoint(id).with_for_update()).one()
    found.seen_at = now
    return found


def find_endpoint(session: Session, id: str, *, lock: bool = False) -> OutboundEndpoint | None:
    """The endpoint with this id. With `lock` it cannot change before the transaction ends."""
    statement = _endpoint(id)
    return session.scalars(statement.with_for_update() if lock else statement).one_or_none()


def endpoints(
    session: Session, *, state: str | None = None, url: str | None = None, limit: int = 50
) -> Sequence[OutboundEndpoint]:
    """Endpoints, the most recently used first. `url`: a part of the address."""
    statement = select(OutboundEndpoint).order_by(OutboundEndpoint.seen_at.desc(), OutboundEndpoint.id).limit(limit)
    if state is not None:
        statement = statement.where(OutboundEndpoint.state == state)
    if url is not None:
        statement = statement.where(OutboundEndpoint.url.icontains(url, autoescape=True))
    return session.scalars(statement).all()


def disabled_automatically(session: Session, *, limit: int) -> Sequence[OutboundEndpoint]:
    """Endpoints that the platform disabled (not an operator), the most recently disabled first."""
    automatically = (OutboundEndpoint.state == DISABLED, OutboundEndpoint.reason != OPERATOR)
    statement = select(OutboundEndpoint).where(*automatically).order_by(OutboundEndpoint.disabled_at.desc())
    return session.scalars(statement.limit(limit)).all()


def find_delivery(session: Session, id: str) -> OutboundDelivery | None:
    """The delivery with this id."""
    return session.scalars(select(OutboundDelivery).where(OutboundDelivery.id == id)).one_or_none()


def with_state(session: Session, id: str) -> Logged | None:
    """The delivery with this id and its state."""
    row = session.execute(_joined().where(OutboundDelivery.id == id)).one_or_none()
    return (row[0], TaskState(row[1])) if row else None


def page(session: Session, filters: DeliveryFilter, *, before: int | None = None, limit: int = 50) -> list[Logged]:
    """A page of deliveries with their states, newest first. `before`: the last `seq` of the previous page."""
    statement = _joined().where(*filters.clauses()).order_by(OutboundDelivery.seq.desc()).limit(limit)
    if before is not None:
        statement = statement.where(OutboundDelivery.seq < before)
    return [(delivery, TaskState(state)) for delivery, state in session.execute(statement)]


def scan(session: Session, filters: DeliveryFilter, *, before: int | None, limit: int) -> Found[Logged]:
    """As `page`, but in a bounded time for each filter: there may be fewer deliveries, and more may follow."""
    if filters == DeliveryFilter(endpoint=filters.endpoint):  # it has an index
        rows = page(session, filters, before=before, limit=limit)
        return Found(rows, rows[-1][0].seq if len(rows) == limit else None)
    read = partial(_part, session, filters)
    number = OutboundDelivery.seq
    return read_backwards(session, number, read, number_of=lambda row: row[0].seq, before=before, limit=limit)


def recent_events(session: Session, *, limit: int) -> dict[str, list[str]]:
    """Endpoint → the events of its deliveries, as far as they are among the newest `limit` deliveries."""
    newest = select(OutboundDelivery.endpoint_id, OutboundDelivery.event).order_by(OutboundDelivery.seq.desc())
    found: dict[str, set[str]] = {}
    for endpoint, name in session.execute(newest.limit(limit)):
        found.setdefault(endpoint, set()).add(name)
    return {endpoint: sorted(names) for endpoint, names in found.items()}


def oldest(session: Session, filters: DeliveryFilter, *, after: int, limit: int) -> Sequence[OutboundDelivery]:
    """A page of deliveries, oldest first. `after`: the last `seq` of the previous page."""
    statement = select(OutboundDelivery).outerjoin(TaskRun, TaskRun.id == OutboundDelivery.id)
    chosen = statement.where(*filters.clauses(), OutboundDelivery.seq > after)
    return session.scalars(chosen.order_by(OutboundDelivery.seq).limit(limit)).all()


def count(session: Session, filters: DeliveryFilter, *, after: int = 0) -> int:
    """The number of selected deliveries."""
    statement = select(func.count()).select_from(OutboundDelivery).outerjoin(TaskRun, TaskRun.id == OutboundDelivery.id)
    return session.scalar(statement.where(*filters.clauses(), OutboundDelivery.seq > after)) or 0


def attempts(session: Session, delivery_id: str) -> Sequence[OutboundAttempt]:
    """The attempts of a delivery that are kept, by number."""
    statement = select(OutboundAttempt).where(OutboundAttempt.delivery_id == delivery_id)
    return session.scalars(statement.order_by(OutboundAttempt.number)).all()


def find_attempt(session: Session, delivery_id: str, number: int) -> OutboundAttempt | None:
    """One attempt of a delivery."""
    return session.get(OutboundAttempt, (delivery_id, number))


def running(session: Session, endpoint_id: str, *, since: datetime) -> int:
    """The number of attempts at an endpoint that started at `since` or later and have not ended."""
    is_running = (OutboundAttempt.endpoint_id == endpoint_id, OutboundAttempt.ended_at.is_(None))
    statement = select(func.count()).select_from(OutboundAttempt)
    return session.scalar(statement.where(*is_running, OutboundAttempt.started_at >= since)) or 0


def end_lost_attempts(session: Session, delivery_id: str, *, now: datetime, error: str) -> None:
    """End the running attempts of a delivery as lost: its task has started again, so their worker is gone."""
    running = (OutboundAttempt.delivery_id == delivery_id, OutboundAttempt.ended_at.is_(None))
    session.execute(update(OutboundAttempt).where(*running).values(ended_at=now, error_type="WorkerLost", error=error))


def trim_attempts(session: Session, delivery_id: str, *, below: int) -> None:
    """Delete the attempts whose numbers are lower than `below`."""
    old = (OutboundAttempt.delivery_id == delivery_id, OutboundAttempt.number < below)
    session.execute(delete(OutboundAttempt).where(*old))


def _endpoint(id: str):
    return select(OutboundEndpoint).where(OutboundEndpoint.id == id)


def _part(session: Session, filters: DeliveryFilter, within: ColumnElement[bool], limit: int) -> list[Logged]:
    statement = _joined().where(*filters.clauses(), within).order_by(OutboundDelivery.seq.desc())
    return [(delivery, TaskState(state)) for delivery, state in session.execute(statement.limit(limit))]


def _joined():
    return select(OutboundDelivery, STATE).outerjoin(TaskRun, TaskRun.id == OutboundDelivery.id)
