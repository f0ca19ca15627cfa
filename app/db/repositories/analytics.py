"""Queries behind analyses and reports.

Figures are computed in the database, alike on SQLite and PostgreSQL: durations in whole microseconds,
percentiles by nearest rank with window functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    String,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased, defer
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from app.db.models import Base, Conversation, ConversationAnalysis, Message, Report, TaskRun
from app.schemas.task import State

CUSTOMER: Final = "customer"
REPLIES: Final = ("assistant", "operator")
TOTAL: Final = "all"

Group = Literal["name", "queue"] | None
"""What the ledger is grouped by; None: everything together, under the name `TOTAL`."""

_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` on, up to but not including `end`."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Measured:
    """Durations of one group, in seconds."""

    times: int
    mean: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class ConversationFacts:
    """What the messages of one conversation come to."""

    status: str
    customer_messages: int
    replies: int
    answered: bool
    """Whether a reply follows the customer's last message."""
    supported: bool
    """Whether some reply cites a source or came from an operator."""
    responses: int
    """Customer messages that a reply follows,"""
    response_seconds: float | None
    """and the mean time from such a message to the next reply."""


@dataclass(frozen=True, slots=True)
class RoleFigures:
    """The messages of one role."""

    role: str
    messages: int
    with_sources: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The tasks of one group, by what has become of them."""

    name: str
    accepted: int
    completed: int
    failed: int
    dead: int
    cancelled: int
    retried: int


class Microseconds(FunctionElement[int]):
    """A moment as microseconds since 1970: exact, and something that both databases can subtract."""

    type, inherit_cache = BigInteger(), True


class UtcDay(FunctionElement[str]):
    """A moment's day in UTC, as 2026-01-31."""

    type, inherit_cache = String(), True


@compiles(Microseconds, "postgresql")
def _(element: Microseconds, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST(EXTRACT(EPOCH FROM {compiler.process(element.clauses, **options)}) * 1000000 AS BIGINT)"


@compiles(Microseconds, "sqlite")
def _(element: Microseconds, compiler: SQLCompiler, **options: Any) -> str:
    moment = compiler.process(element.clauses, **options)  # "2026-01-31 12:00:00.000000", always six places
    # Whole seconds alone: strftime rounds 59.9995 up to the next second.
    seconds = f"CAST(strftime('%s', substr({moment}, 1, 19)) AS INTEGER)"
    return f"({seconds} * 1000000 + CAST(substr({moment}, 21) AS INTEGER))"


@compiles(UtcDay, "postgresql")
def _(element: UtcDay, compiler: SQLCompiler, **options: Any) -> str:
    return f"to_char({compiler.process(element.clauses, **options)} AT TIME ZONE 'UTC', 'YYYY-MM-DD')"


@compiles(UtcDay, "sqlite")
def _(element: UtcDay, compiler: SQLCompiler, **options: Any) -> str:
    return f"substr({compiler.process(element.clauses, **options)}, 1, 10)"


def count_conversations(session: Session) -> int:
    """How many conversations there are."""
    return session.scalar(select(func.count()).select_from(Conversation)) or 0


def conversation_ids(session: Session, *, after: str, limit: int) -> Sequence[str]:
    """The next conversations by id."""
    statement = select(Conversation.id).where(Conversation.id > after).order_by(Conversation.id).limit(limit)
    return session.scalars(statement).all()


def lock_conversations(session: Session, ids: Sequence[str]) -> set[str]:
    """Those of the conversations that exist; they cannot be deleted before the transaction ends."""
    statement = select(Conversation.id).where(Conversation.id.in_(ids)).order_by(Conversation.id)
    return set(session.scalars(statement.with_for_update(read=True, key_share=True)))


def conversation_facts(session: Session, id: str) -> ConversationFacts | None:
    """What one conversation comes to; None when it does not exist."""
    status = session.scalar(select(Conversation.status).where(Conversation.id == id))
    if status is None:
        return None
    is_customer, is_reply = Message.role == CUSTOMER, Message.role.in_(REPLIES)
    last = func.max(case((is_customer, Message.id), else_=0))
    customer, replies, supported, last_asked, last_replied = session.execute(
        select(
            _count(is_customer), _count(is_reply), _count(and_(is_reply, or_(Message.role == "operator", _cites()))),
            last, func.max(case((is_reply, Message.id), else_=0)),
        ).where(Message.conversation_id == id)
    ).one()  # fmt: skip
    measured = _measure(session, _responses().where(Message.conversation_id == id)).get(TOTAL)
    return ConversationFacts(
        status, customer, replies, answered=(last_replied or 0) > (last_asked or 0) > 0, supported=supported > 0,
        responses=measured.times if measured else 0, response_seconds=measured.mean if measured else None,
    )  # fmt: skip


def customer_texts(session: Session, id: str, *, limit: int, length: int) -> list[str]:
    """The beginnings of the customer's newest messages, oldest first."""
    statement = (
        select(func.substr(Message.text, 1, length))
        .where(Message.conversation_id == id, Message.role == CUSTOMER)
        .order_by(Message.id.desc())
        .limit(limit)
    )
    return [*session.scalars(statement)][::-1]


def store_analyses(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Write down analyses, each in the place of its conversation's older one."""
    if rows:
        _upsert(session, ConversationAnalysis, rows, key=ConversationAnalysis.conversation_id)


def store_report(session: Session, **values: Any) -> None:
    """Write down a report; the same id again takes its place."""
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
    """Channel → conversations opened."""
    statement = select(Conversation.channel, func.count()).where(_within(Conversation.created_at, period))
    return {row[0]: row[1] for row in session.execute(statement.group_by(Conversation.channel))}


def opened_by_day(session: Session, period: Period) -> dict[str, int]:
    """Day → conversations opened."""
    day = UtcDay(Conversation.created_at).label("day")
    statement = select(day, func.count()).where(_within(Conversation.created_at, period)).group_by(day)
    return {row[0]: row[1] for row in session.execute(statement)}


def messages_by_role(session: Session, period: Period) -> list[RoleFigures]:
    """The messages of the period, role by role."""
    tokens = [func.coalesce(func.sum(column), 0) for column in (Message.prompt_tokens, Message.completion_tokens)]
    statement = (
        select(Message.role, func.count(), _count(_cites()), *tokens)
        .where(_within(Message.created_at, period))
        .group_by(Message.role)
        .order_by(Message.role)
    )
    return [RoleFigures(*row) for row in session.execute(statement)]


def messages_by_day(session: Session, period: Period) -> dict[str, tuple[int, int]]:
    """Day → customer messages, replies."""
    day = UtcDay(Message.created_at).label("day")
    statement = (
        select(day, _count(Message.role == CUSTOMER), _count(Message.role.in_(REPLIES)))
        .where(_within(Message.created_at, period))
        .group_by(day)
    )
    return {row[0]: (row[1], row[2]) for row in session.execute(statement)}


def response_times(session: Session, period: Period) -> Measured | None:
    """Times from the customer messages of the period to the next reply, also when that came later."""
    return _measure(session, _responses().where(_within(Message.created_at, period))).get(TOTAL)


def runs_by(session: Session, group: Group, period: Period) -> list[RunFigures]:
    """The tasks accepted in the period, counted by a column of the ledger."""
    states = (State.COMPLETED, State.FAILED, State.DEAD_LETTER, State.CANCELLED)
    accepted = select(_named(group), TaskRun.state, TaskRun.attempts).where(_within(TaskRun.accepted_at, period))
    runs = accepted.subquery()
    counted = [_count(runs.c.state == state) for state in states]
    statement = select(runs.c.name, func.count(), *counted, _count(runs.c.attempts > 1)).group_by(runs.c.name)
    return [RunFigures(*row) for row in session.execute(statement.order_by(runs.c.name))]


def waiting_times(session: Session, group: Group, period: Period) -> dict[str, Measured]:
    """Group → times from acceptance to start, of tasks that were started once: only the last start is kept."""
    waited = _between(TaskRun.accepted_at, TaskRun.started_at)
    return _measure(
        session, select(_named(group), waited).where(_within(TaskRun.accepted_at, period), TaskRun.attempts == 1)
    )


def processing_times(session: Session, group: Group, period: Period) -> dict[str, Measured]:
    """Group → times from the last start to the end."""
    worked = _between(TaskRun.started_at, TaskRun.finished_at)
    return _measure(session, select(_named(group), worked).where(_within(TaskRun.accepted_at, period)))


def _measure(session: Session, durations: Select[str, int]) -> dict[str, Measured]:
    """Number, mean and percentiles of each group of a select of (name, duration); NULLs are left out.

    Nearest rank: of n durations in order the p-th percentile is number ceil(n * p / 100).
    """
    taken = durations.subquery()
    name, duration = taken.c.name, taken.c.duration
    place = func.row_number().over(partition_by=name, order_by=duration)
    size = func.count().over(partition_by=name)
    ranked = select(name, duration, place.label("place"), size.label("size")).where(duration.is_not(None)).subquery()

    def percentile(p: int) -> ColumnElement[int]:
        return func.max(case((ranked.c.place == (ranked.c.size * p + 99) // 100, ranked.c.duration)))

    statement = select(
        ranked.c.name, func.count(), func.avg(ranked.c.duration), percentile(50), percentile(95)
    ).group_by(ranked.c.name)
    return {row[0]: Measured(row[1], *(_seconds(value) for value in row[2:])) for row in session.execute(statement)}


def _responses() -> Select[str, int]:
    """(TOTAL, duration) of customer messages that a reply follows; narrow it down by `Message`."""
    later, reply = aliased(Message), aliased(Message)
    next_reply = (
        select(func.min(later.id))
        .where(later.conversation_id == Message.conversation_id, later.id > Message.id, later.role.in_(REPLIES))
        .scalar_subquery()
    )
    return (
        select(literal(TOTAL).label("name"), _between(Message.created_at, reply.created_at))
        .join_from(Message, reply, reply.id == next_reply)
        .where(Message.role == CUSTOMER)
    )


def _between(start: Any, end: Any) -> ColumnElement[int]:
    """A duration; never below zero, because two machines' clocks wrote the two times."""
    duration = Microseconds(end) - Microseconds(start)
    return case((duration < 0, 0), else_=duration).label("duration")


def _within(moment: InstrumentedAttribute[datetime], period: Period) -> ColumnElement[bool]:
    return and_(moment >= period.start, moment < period.end)


def _cites() -> ColumnElement[bool]:
    return cast(Message.sources, String).not_in(("[]", "null"))


def _named(group: Group) -> ColumnElement[str]:
    columns = {"name": TaskRun.name, "queue": TaskRun.queue, None: literal(TOTAL)}
    return columns[group].label("name")


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count(case((condition, 1)))


def _seconds(microseconds: Any) -> float:
    return round(float(microseconds) / _MICROSECONDS, 6)


def _upsert(
    session: Session, model: type[Base], rows: Sequence[dict[str, Any]], *, key: InstrumentedAttribute[str]
) -> None:
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    new = dialect.insert(model).values(list(rows))
    replaced = {name: new.excluded[name] for name in rows[0] if name != key.key}
    session.execute(new.on_conflict_do_update(index_elements=[key], set_=replaced))
