"""Queries over outbound webhooks: endpoints, deliveries, attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from laneway.platform.db.models import OutboundAttempt, OutboundDelivery, OutboundEndpoint, TaskRun
from laneway.platform.schemas.task import TaskState

ENABLED, DISABLED = "enabled", "disabled"
OPERATOR = "operator"
"""The reason of what somebody disabled by hand."""
STATE: ColumnElement[str] = func.coalesce(TaskRun.state, OutboundDelivery.state)
"""The state of a delivery: its task's while that is known, then as its attempts left it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries; what is not given does not matter. Times are of the first attempt."""

    endpoint: str | None = None
    event: str | None = None
    states: tuple[TaskState, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def clauses(self) -> list[ColumnElement[bool]]:
        """As conditions on `CallbackDelivery` and `STATE`."""
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


def seen_endpoint(session: Session, id: str, *, url: str, now: datetime) -> OutboundEndpoint:
    """The endpoint, locked; it is written down when it is seen for the first time."""
    found = find_endpoint(session, id, lock=True)
    if found is None:
        values = {"id": id, "url": url, "state": ENABLED, "consecutive_failures": 0, "created_at": now, "seen_at": now}
        try:
            with session.begin_nested():
                session.execute(insert(OutboundEndpoint).values(**values))
        except IntegrityError:
            pass  # somebody else did at the same moment; now it is there to be locked
        found = session.scalars(_endpoint(id).with_for_update()).one()
    found.seen_at = now
    return found


def find_endpoint(session: Session, id: str, *, lock: bool = False) -> OutboundEndpoint | None:
    """The endpoint with this id; locked, it cannot change before the transaction ends."""
    statement = _endpoint(id)
    return session.scalars(statement.with_for_update() if lock else statement).one_or_none()


def endpoints(
    session: Session, *, state: str | None = None, url: str | None = None, limit: int = 50
) -> Sequence[OutboundEndpoint]:
    """Endpoints, the last used first; `url`: part of the address."""
    statement = select(OutboundEndpoint).order_by(OutboundEndpoint.seen_at.desc(), OutboundEndpoint.id).limit(limit)
    if state is not None:
        statement = statement.where(OutboundEndpoint.state == state)
    if url is not None:
        statement = statement.where(OutboundEndpoint.url.icontains(url, autoescape=True))
    return session.scalars(statement).all()


def disabled_for_cause(session: Session, *, limit: int) -> Sequence[OutboundEndpoint]:
    """Endpoints that nobody disabled by hand, the newest first."""
    cause = (OutboundEndpoint.state == DISABLED, OutboundEndpoint.reason != OPERATOR)
    statement = select(OutboundEndpoint).where(*cause).order_by(OutboundEndpoint.disabled_at.desc())
    return session.scalars(statement.limit(limit)).all()


def find_delivery(session: Session, id: str) -> OutboundDelivery | None:
    """The delivery with this id."""
    return session.scalars(select(OutboundDelivery).where(OutboundDelivery.id == id)).one_or_none()


def with_state(session: Session, id: str) -> tuple[OutboundDelivery, TaskState] | None:
    """The delivery with this id, and its state."""
    row = session.execute(_joined().where(OutboundDelivery.id == id)).one_or_none()
    return (row[0], TaskState(row[1])) if row else None


def page(
    session: Session, which: DeliveryFilter, *, before: int | None = None, limit: int = 50
) -> list[tuple[OutboundDelivery, TaskState]]:
    """Deliveries with their states, newest first; `before`: the `seq` at which the last page ended."""
    statement = _joined().where(*which.clauses()).order_by(OutboundDelivery.seq.desc()).limit(limit)
    if before is not None:
        statement = statement.where(OutboundDelivery.seq < before)
    return [(delivery, TaskState(state)) for delivery, state in session.execute(statement)]


def oldest(session: Session, which: DeliveryFilter, *, after: int, limit: int) -> Sequence[OutboundDelivery]:
    """Deliveries, oldest first; `after`: the `seq` at which the last page ended."""
    statement = select(OutboundDelivery).outerjoin(TaskRun, TaskRun.id == OutboundDelivery.id)
    chosen = statement.where(*which.clauses(), OutboundDelivery.seq > after)
    return session.scalars(chosen.order_by(OutboundDelivery.seq).limit(limit)).all()


def count(session: Session, which: DeliveryFilter, *, after: int = 0) -> int:
    """How many deliveries there are."""
    statement = select(func.count()).select_from(OutboundDelivery).outerjoin(TaskRun, TaskRun.id == OutboundDelivery.id)
    return session.scalar(statement.where(*which.clauses(), OutboundDelivery.seq > after)) or 0


def attempts(session: Session, delivery_id: str) -> Sequence[OutboundAttempt]:
    """The kept attempts of a delivery."""
    statement = select(OutboundAttempt).where(OutboundAttempt.delivery_id == delivery_id)
    return session.scalars(statement.order_by(OutboundAttempt.number)).all()


def find_attempt(session: Session, delivery_id: str, number: int) -> OutboundAttempt | None:
    """One attempt."""
    return session.get(OutboundAttempt, (delivery_id, number))


def running(session: Session, endpoint_id: str, *, since: datetime) -> int:
    """How many attempts at an endpoint have begun since then and are not over."""
    open_ones = (OutboundAttempt.endpoint_id == endpoint_id, OutboundAttempt.ended_at.is_(None))
    statement = select(func.count()).select_from(OutboundAttempt)
    return session.scalar(statement.where(*open_ones, OutboundAttempt.started_at >= since)) or 0


def give_up(session: Session, delivery_id: str, *, now: datetime, error: str) -> None:
    """End the attempts of a delivery that nobody will hear of again: its task has begun anew."""
    left = (OutboundAttempt.delivery_id == delivery_id, OutboundAttempt.ended_at.is_(None))
    session.execute(update(OutboundAttempt).where(*left).values(ended_at=now, error_type="WorkerLost", error=error))


def trim_attempts(session: Session, delivery_id: str, *, below: int) -> None:
    """Forget the attempts with numbers below that."""
    old = (OutboundAttempt.delivery_id == delivery_id, OutboundAttempt.number < below)
    session.execute(delete(OutboundAttempt).where(*old))


def _endpoint(id: str):
    return select(OutboundEndpoint).where(OutboundEndpoint.id == id)


def _joined():
    return select(OutboundDelivery, STATE).outerjoin(TaskRun, TaskRun.id == OutboundDelivery.id)
