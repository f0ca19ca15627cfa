"""Queries over webhook deliveries, their events, and the mapping that was valid last."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import WebhookDelivery, WebhookEvent, WebhookMapping

QUEUED, PROCESSED = "queued", "processed"
MAPPING_ROW: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events are selected; a field that is None or empty selects all."""

    states: tuple[str, ...] = ()
    source: str | None = None
    name: str | None = None
    rule: str | None = None


def store(session: Session, id: str, *, source: str, body: dict[str, Any] | list[Any], now: datetime) -> None:
    """Store a delivery unless it is stored already."""
    with suppress(IntegrityError), session.begin_nested():
        session.execute(insert(WebhookDelivery).values(id=id, source=source, body=body, state=QUEUED, received_at=now))


def find(session: Session, id: str) -> WebhookDelivery | None:
    """The delivery with this id."""
    return session.get(WebhookDelivery, id)


def mark_processed(session: Session, id: str, *, now: datetime) -> None:
    """Note that it is decided for every event of the delivery what follows from it."""
    session.execute(update(WebhookDelivery).where(WebhookDelivery.id == id).values(state=PROCESSED, processed_at=now))


def add_event(session: Session, **values: Any) -> WebhookEvent:
    """Store an event unless its id is stored already; return the stored one, locked until the end of the transaction.

    The lock lets one process at a time decide what follows from an event.
    """
    with suppress(IntegrityError), session.begin_nested():
        session.execute(insert(WebhookEvent).values(**values))
    chosen = WebhookEvent.source == values["source"], WebhookEvent.event_id == values["event_id"]
    return session.scalars(select(WebhookEvent).where(*chosen).with_for_update()).one()


def find_event(session: Session, id: int) -> WebhookEvent | None:
    """The event with this number."""
    return session.get(WebhookEvent, id)


def delete_event(session: Session, id: int) -> None:
    """Delete an event without a task that its delivery does not have any more, because it is read differently now."""
    session.execute(delete(WebhookEvent).where(WebhookEvent.id == id, WebhookEvent.task_id.is_(None)))


def discard_events(session: Session, ids: Sequence[int], *, state: str) -> None:
    """Set the state of these events, except those that have a task."""
    chosen = WebhookEvent.id.in_(ids), WebhookEvent.task_id.is_(None)
    session.execute(update(WebhookEvent).where(*chosen).values(state=state))


def events(
    session: Session, which: EventFilter, *, limit: int, before: int | None = None, after: int | None = None
) -> Sequence[WebhookEvent]:
    """Events, newest first; with `after` oldest first, from the next number on."""
    chosen = _selected(select(WebhookEvent), which)
    if before is not None:
        chosen = chosen.where(WebhookEvent.id < before)
    if after is not None:
        return session.scalars(chosen.where(WebhookEvent.id > after).order_by(WebhookEvent.id).limit(limit)).all()
    return session.scalars(chosen.order_by(WebhookEvent.id.desc()).limit(limit)).all()


def count_events(session: Session, which: EventFilter, *, after: int = 0) -> int:
    """The number of selected events from the next number on."""
    chosen = _selected(select(func.count()).select_from(WebhookEvent), which)
    return session.scalar(chosen.where(WebhookEvent.id > after)) or 0


def count_by_source(session: Session, state: str) -> dict[str, int]:
    """Source → number of events in this state."""
    rows = session.execute(
        select(WebhookEvent.source, func.count()).where(WebhookEvent.state == state).group_by(WebhookEvent.source)
    ).all()
    return {source: number for source, number in rows}  # noqa: C416 - a Row is no tuple for the type checker


def figures(session: Session) -> Sequence[tuple[str, str, str, int]]:
    """(source, name, state, number of events), the largest number first."""
    columns = WebhookEvent.source, WebhookEvent.name, WebhookEvent.state
    rows = session.execute(select(*columns, func.count().label("n")).group_by(*columns)).all()
    found = [(source, name, state, number) for source, name, state, number in rows]
    return sorted(found, key=lambda row: (-row[3], *row[:3]))


def count_deliveries(session: Session) -> dict[str, int]:
    """State → number of deliveries."""
    rows = session.execute(select(WebhookDelivery.state, func.count()).group_by(WebhookDelivery.state)).all()
    return {state: number for state, number in rows}  # noqa: C416 - a Row is no tuple for the type checker


def kept_mapping(session: Session) -> WebhookMapping | None:
    """The mapping that was valid last."""
    return session.get(WebhookMapping, MAPPING_ROW)


def keep_mapping(session: Session, *, file: str, content: str, digest: str, now: datetime) -> None:
    """Keep this mapping as the one that was valid last."""
    values = {"file": file, "content": content, "digest": digest, "stored_at": now}
    with suppress(IntegrityError), session.begin_nested():
        session.execute(insert(WebhookMapping).values(id=MAPPING_ROW, **values))
        return
    session.execute(update(WebhookMapping).where(WebhookMapping.id == MAPPING_ROW).values(**values))


def _selected(chosen: Select[Any], which: EventFilter) -> Select[Any]:
    if which.states:
        chosen = chosen.where(WebhookEvent.state.in_(which.states))
    for column, value in (
        (WebhookEvent.source, which.source),
        (WebhookEvent.name, which.name),
        (WebhookEvent.rule, which.rule),
    ):
        if value is not None:
            chosen = chosen.where(column == value)
    return chosen
