"""Queries over conversations and their messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import Conversation, Message

AWAITING_CUSTOMER, OPEN = "awaiting_customer", "open"


class Excerpt(NamedTuple):
    """The beginning of a message."""

    role: str
    text: str


def find(session: Session, id: str) -> Conversation | None:
    """The conversation with this id."""
    return session.get(Conversation, id)


def open_or_continue(
    session: Session, id: str, *, channel: str, customer: dict[str, Any], now: datetime
) -> Conversation:
    """Open the conversation if it does not exist, and merge what is known about the customer into it."""
    conversation = session.get(Conversation, id)
    if conversation is None:
        conversation = Conversation(
            id=id, channel=channel, customer={}, status=OPEN, follow_ups=0, created_at=now, updated_at=now
        )
        session.add(conversation)
    conversation.customer = {**conversation.customer, **customer}
    session.flush()
    return conversation


def add_message(session: Session, **values: Any) -> bool:
    """Store one turn; returns False if it is stored already."""
    try:
        with session.begin_nested():
            session.execute(insert(Message).values(**{"sources": [], **values}))
    except IntegrityError:
        return False
    return True


def touch(session: Session, id: str, *, status: str, now: datetime, follow_ups: int) -> None:
    """Update a conversation after a new turn."""
    session.execute(
        update(Conversation).where(Conversation.id == id).values(status=status, updated_at=now, follow_ups=follow_ups)
    )


def message(session: Session, message_id: str) -> Message | None:
    """The turn with this message id."""
    return session.scalars(select(Message).where(Message.message_id == message_id)).one_or_none()


def newest(session: Session, conversation_id: str, *, limit: int, before_id: int | None = None) -> list[Message]:
    """The newest turns, oldest first."""
    statement = select(Message).where(Message.conversation_id == conversation_id).order_by(Message.id.desc())
    if before_id is not None:
        statement = statement.where(Message.id < before_id)
    return list(reversed(session.scalars(statement.limit(limit)).all()))


def count_messages(session: Session, conversation_id: str) -> int:
    """The number of turns of a conversation."""
    return (
        session.scalar(select(func.count()).select_from(Message).where(Message.conversation_id == conversation_id)) or 0
    )


def page(
    session: Session, *, status: str | None, before: tuple[datetime, str] | None, limit: int
) -> Sequence[Conversation]:
    """Conversations, those that changed last first. `before`: time and id of the last one of the page before."""
    changed, id = Conversation.updated_at, Conversation.id
    statement = select(Conversation).order_by(changed.desc(), id.desc()).limit(limit)
    if status is not None:
        statement = statement.where(Conversation.status == status)
    if before is not None:
        statement = statement.where(changed <= before[0], or_(changed < before[0], id < before[1]))
    return session.scalars(statement).all()


def excerpts(session: Session, ids: Sequence[str], *, length: int) -> Mapping[str, Excerpt]:
    """Conversation → the first `length` characters of its newest turn."""
    newest = select(func.max(Message.id)).where(Message.conversation_id == Conversation.id).scalar_subquery()
    chosen = select(newest).where(Conversation.id.in_(ids))
    columns = Message.conversation_id, Message.role, func.substr(Message.text, 1, length)
    rows = session.execute(select(*columns).where(Message.id.in_(chosen)))
    return {id: Excerpt(role, text) for id, role, text in rows}


def idle(session: Session, *, before: datetime, limit: int) -> Sequence[tuple[str, int]]:
    """(conversation, id of its newest turn) of customers who were silent since `before` and not reminded yet."""
    rows = session.execute(
        select(Conversation.id, func.max(Message.id))
        .join(Message, Message.conversation_id == Conversation.id)
        .where(Conversation.status == AWAITING_CUSTOMER, Conversation.updated_at < before, Conversation.follow_ups == 0)
        .group_by(Conversation.id)
        .order_by(Conversation.id)
        .limit(limit)
    )
    return [(id, newest) for id, newest in rows]
