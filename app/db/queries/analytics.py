"""Queries of analyses and reports. The database computes the figures, with the platform's `durations` queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Select, String, and_, case, cast, func, literal, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased, defer

from app.db.models import Base, Conversation, ConversationAnalysis, Message, Report
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.durations import TOTAL, Measured, Period, UtcDay, between, count_of, measure, within
from laneway.platform.db.queries.statistics import waited
from laneway.schemas.task import TaskState

CUSTOMER: Final = "customer"
REPLIES: Final = ("assistant", "operator")

Group = Literal["name", "queue"] | None
"""The ledger's column to group by; None: one group named `TOTAL`."""


@dataclass(frozen=True, slots=True)
class ConversationFacts:
    """Figures of one conversation, computed from its messages."""

    status: str
    customer_messages: int
    replies: int
    answered: bool
    """Whether a reply follows the customer's last message."""
    has_cited_reply: bool
    """Whether at least one reply cites a source or came from an operator."""
    responses: int
    """Number of customer messages that a reply follows."""
    response_seconds: float | None
    """Mean seconds from such a message to the next reply."""


@dataclass(frozen=True, slots=True)
class RoleFigures:
    """Figures of the messages of one role."""

    role: str
    messages: int
    with_sources: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The tasks of one group, counted by state."""

    name: str
    accepted: int
    completed: int
    failed: int
    dead: int
    cancelled: int
    retried: int


def count_conversations(session: Session) -> int:
    """The number of conversations."""
    return session.scalar(select(func.count()).select_from(Conversation)) or 0


def conversation_ids(session: Session, *, after: str, limit: int) -> Sequence[str]:
    """The ids of the next conversations, in order."""
    statement = select(Conversation.id).where(Conversation.id > after).order_by(Conversation.id).limit(limit)
    return session.scalars(statement).all()


def lock_conversations(session: Session, ids: Sequence[str]) -> set[str]:
    """Lock these conversations against deletion until the transaction ends, and return the ids that exist."""
    statement = select(Conversation.id).where(Conversation.id.in_(ids)).order_by(Conversation.id)
    return set(session.scalars(statement.with_for_update(read=True, key_share=True)))


def conversation_facts(session: Session, id: str) -> ConversationFacts | None:
    """The figures of one conversation; None if it does not exist."""
    status = session.scalar(select(Conversation.status).where(Conversation.id == id))
    if status is None:
        return None
    is_customer, is_reply = Message.role == CUSTOMER, Message.role.in_(REPLIES)
    last = func.max(case((is_customer, Message.id), else_=0))
    customer, replies, cited_replies, last_customer_id, last_reply_id = session.execute(
        select(
            count_of(is_customer),
            count_of(is_reply),
            count_of(and_(is_reply, or_(Message.role == "operator", _cites()))),
            last,
            func.max(case((is_reply, Message.id), else_=0)),
        ).where(Message.conversation_id == id)
    ).one()
    measured = measure(session, _responses().where(Message.conversation_id == id)).get(TOTAL)
    return ConversationFacts(
        status,
        customer,
        replies,
        answered=(last_reply_id or 0) > (last_customer_id or 0) > 0,
        has_cited_reply=cited_replies > 0,
        responses=measured.count if measured else 0,
        response_seconds=measured.mean if measured else None,
    )


def customer_texts(session: Session, id: str, *, limit: int, length: int) -> list[str]:
    """The first `length` characters of the customer's newest messages, oldest first."""
    statement = (
        select(func.substr(Message.text, 1, length))
        .where(Message.conversation_id == id, Message.role == CUSTOMER)
        .order_by(Message.id.desc())
        .limit(limit)
    )
    return [*session.scalars(statement)][::-1]


def store_analyses(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Store analyses; each replaces the older one of its conversation."""
    if rows:
        _upsert(session, ConversationAnalysis, rows, key=ConversationAnalysis.conversation_id)


def store_report(session: Session, **values: Any) -> None:
    """Store a report; a report with the same id is replaced."""
    _upsert(session, Report, [values], key=Report.id)


def report(session: Session, id: str) -> Report | None:
    """The report with this id."""
    return session.get(Report, id)


def reports(session: Session, *, kind: str | None, limit: int, before: datetime | None) -> Sequence[Report]:
    """Reports, newest first, without their data."""
    statement = (
        select(Report)
        .options(defer(Report.data, raiseload=True))
        .order_by(Report.created_at.desc(), Report.id.desc())
        .limit(limit)
    )
    if kind is not None:
        statement = statement.where(Report.kind == kind)
    return session.scalars(statement.where(Report.created_at < before) if before is not None else statement).all()


def opened_by_channel(session: Session, period: Period) -> dict[str, int]:
    """Number of conversations opened, by channel."""
    statement = select(Conversation.channel, func.count()).where(within(Conversation.created_at, period))
    return {row[0]: row[1] for row in session.execute(statement.group_by(Conversation.channel))}


def opened_by_day(session: Session, period: Period) -> dict[str, int]:
    """Number of conversations opened, by day."""
    day = UtcDay(Conversation.created_at).label("day")
    statement = select(day, func.count()).where(within(Conversation.created_at, period)).group_by(day)
    return {row[0]: row[1] for row in session.execute(statement)}


def messages_by_role(session: Session, period: Period) -> list[RoleFigures]:
    """Figures of the period's messages, by role."""
    tokens = [func.coalesce(func.sum(column), 0) for column in (Message.prompt_tokens, Message.completion_tokens)]
    statement = (
        select(Message.role, func.count(), count_of(_cites()), *tokens)
        .where(within(Message.created_at, period))
        .group_by(Message.role)
        .order_by(Message.role)
    )
    return [RoleFigures(*row) for row in session.execute(statement)]


def messages_by_day(session: Session, period: Period) -> dict[str, tuple[int, int]]:
    """Numbers of customer messages and replies, by day."""
    day = UtcDay(Message.created_at).label("day")
    statement = (
        select(day, count_of(Message.role == CUSTOMER), count_of(Message.role.in_(REPLIES)))
        .where(within(Message.created_at, period))
        .group_by(day)
    )
    return {row[0]: (row[1], row[2]) for row in session.execute(statement)}


def response_times(session: Session, period: Period) -> Measured | None:
    """Times from each customer message of the period to the next reply, which may come after the period."""
    return measure(session, _responses().where(within(Message.created_at, period))).get(TOTAL)


def runs_by(session: Session, group: Group, period: Period) -> list[RunFigures]:
    """The tasks accepted in the period, counted per group."""
    states = (TaskState.COMPLETED, TaskState.FAILED, TaskState.DEAD_LETTER, TaskState.CANCELLED)
    accepted = select(_group_name(group), TaskRun.state, TaskRun.attempts).where(within(TaskRun.accepted_at, period))
    runs = accepted.subquery()
    counted = [count_of(runs.c.state == state) for state in states]
    statement = select(runs.c.name, func.count(), *counted, count_of(runs.c.attempts > 1)).group_by(runs.c.name)
    return [RunFigures(*row) for row in session.execute(statement.order_by(runs.c.name))]


def waiting_times(session: Session, group: Group, period: Period) -> dict[str, Measured]:
    """Waiting times of tasks until their last start, by group."""
    return measure(session, select(_group_name(group), waited()).where(within(TaskRun.accepted_at, period)))


def processing_times(session: Session, group: Group, period: Period) -> dict[str, Measured]:
    """Times from the last start to the end, by group."""
    worked = between(TaskRun.started_at, TaskRun.finished_at)
    return measure(session, select(_group_name(group), worked).where(within(TaskRun.accepted_at, period)))


def _responses() -> Select[str, int]:
    """Select (TOTAL, duration) of customer messages that a reply follows; callers filter by `Message`."""
    later, reply = aliased(Message), aliased(Message)
    next_reply = (
        select(func.min(later.id))
        .where(later.conversation_id == Message.conversation_id, later.id > Message.id, later.role.in_(REPLIES))
        .scalar_subquery()
    )
    return (
        select(literal(TOTAL).label("name"), between(Message.created_at, reply.created_at))
        .join_from(Message, reply, reply.id == next_reply)
        .where(Message.role == CUSTOMER)
    )


def _cites() -> ColumnElement[bool]:
    return cast(Message.sources, String).not_in(("[]", "null"))


def _group_name(group: Group) -> ColumnElement[str]:
    columns = {"name": TaskRun.name, "queue": TaskRun.queue, None: literal(TOTAL)}
    return columns[group].label("name")


def _upsert(
    session: Session, model: type[Base], rows: Sequence[dict[str, Any]], *, key: InstrumentedAttribute[str]
) -> None:
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    new = dialect.insert(model).values(list(rows))
    replaced = {name: new.excluded[name] for name in rows[0] if name != key.key}
    session.execute(new.on_conflict_do_update(index_elements=[key], set_=replaced))
