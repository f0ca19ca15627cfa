"""Queries over leads, and over the records of the local CRM."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import CrmRecord, Lead


def find(session: Session, lead_id: str, *, lock: bool = False) -> Lead | None:
    """The lead that callers know by this id. With `lock` nobody else can change it until the transaction ends."""
    statement = select(Lead).where(Lead.lead_id == lead_id)
    return session.scalars(statement.with_for_update() if lock else statement).one_or_none()


def find_by_source(session: Session, source: str, source_id: str) -> Lead | None:
    """The lead with this id of its source."""
    return session.scalars(select(Lead).where(Lead.source == source, Lead.source_id == source_id)).one_or_none()


def lock_by_uid(session: Session, uid: str) -> Lead | None:
    """Lock the lead with this uid until the transaction ends; None if it was deleted."""
    return session.scalars(select(Lead).where(Lead.uid == uid).with_for_update()).one_or_none()


def add(session: Session, **values: Any) -> Lead | None:
    """Store a lead; returns None if its `lead_id`, or its source's id, is taken."""
    try:
        with session.begin_nested():
            lead = session.scalars(insert(Lead).returning(Lead), [values]).one()
    except IntegrityError:
        return None
    return lead


def page(session: Session, *, before: int | None, limit: int, state: str | None, source: str | None) -> Sequence[Lead]:
    """Leads, newest first."""
    statement = select(Lead).order_by(Lead.id.desc()).limit(limit)
    for column, value in ((Lead.crm_state, state), (Lead.source, source)):
        if value is not None:
            statement = statement.where(column == value)
    if before is not None:
        statement = statement.where(Lead.id < before)
    return session.scalars(statement).all()


def remove(session: Session, lead: Lead) -> None:
    """Delete a lead; its record in the local CRM is deleted with it (ON DELETE CASCADE)."""
    session.execute(delete(Lead).where(Lead.id == lead.id).execution_options(synchronize_session=False))


def lock_record(session: Session, id: str) -> CrmRecord | None:
    """Lock the local CRM's record with this id until the transaction ends; None if there is none."""
    return session.scalars(select(CrmRecord).where(CrmRecord.id == id).with_for_update()).one_or_none()


def add_record(session: Session, *, id: str, uid: str, version: int, data: dict[str, Any], now: datetime) -> None:
    """Add a record to the local CRM. Raises IntegrityError if the lead was deleted meanwhile, or has a record."""
    session.execute(
        insert(CrmRecord).values(id=id, lead_uid=uid, version=version, data=data, created_at=now, updated_at=now)
    )
