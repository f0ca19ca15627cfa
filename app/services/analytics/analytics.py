"""Analyses of conversations, one by one and in total, and reports computed from stored data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from statistics import fmean
from typing import Any, Final

from sqlalchemy.orm import Session

from app.db.models import ConversationAnalysis, Report
from app.db.queries import analytics as repository
from app.db.queries.analytics import ConversationFacts, Group, Measured, Period, RunFigures
from app.schemas.analytics import (
    ConversationAnalysisSummary,
    ConversationAnalytics,
    DayFigures,
    Durations,
    PerformanceReport,
    ReportHead,
    ReportKind,
    ReportResponse,
    TaskFigures,
)
from app.services.integrations.language.key_phrases import key_phrases
from app.services.integrations.language.sentiment import label, sentiment
from app.services.integrations.language.words import MAX_TEXT
from laneway.platform import clock
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound

Progress = Callable[[int, int], None]
"""Called with the number of analysed conversations and the total."""

MAX_MESSAGES: Final = 500
"""Sentiment and key phrases come from this many of a customer's newest messages."""
PHRASES_PER_CONVERSATION: Final = 10
PHRASES_IN_SUMMARY: Final = 20
MAX_COUNTED_PHRASES: Final = 20_000
"""Bounds the memory for phrases: when twice as many are counted, the rarer half is dropped."""
MAX_REPORTS: Final = 200
RESOLVED_STATUSES: Final = frozenset({"resolved", "closed"})


@dataclass(frozen=True, slots=True)
class _Analysis:
    """One analysed conversation: `values` is the row to store, `facts` are the figures for the totals."""

    values: dict[str, Any]
    facts: ConversationFacts


@dataclass(slots=True)
class _Totals:
    """Running totals over the analysed conversations."""

    conversations: int = 0
    unknown: int = 0
    resolved: int = 0
    sentiment: float = 0
    responses: int = 0
    response_seconds: float = 0
    labels: Counter[str] = field(default_factory=lambda: Counter(positive=0, neutral=0, negative=0))
    phrases: Counter[str] = field(default_factory=Counter[str])

    def add(self, analysis: _Analysis) -> None:
        """Add one conversation."""
        self.conversations += 1
        self.resolved += analysis.values["resolved"]
        self.sentiment += analysis.values["sentiment"]
        self.responses += analysis.facts.responses
        self.response_seconds += analysis.facts.responses * (analysis.facts.response_seconds or 0)
        self.labels[analysis.values["sentiment_label"]] += 1
        self.phrases.update(analysis.values["key_phrases"])
        if len(self.phrases) > 2 * MAX_COUNTED_PHRASES:
            self.phrases = Counter(dict(self.phrases.most_common(MAX_COUNTED_PHRASES)))

    def summary(self) -> ConversationAnalysisSummary:
        """The totals as a report."""
        common = sorted(self.phrases.items(), key=lambda item: (-item[1], item[0]))
        return ConversationAnalysisSummary(
            conversations=self.conversations,
            unknown=self.unknown,
            mean_sentiment=_share(self.sentiment, self.conversations),
            sentiment_labels=dict(self.labels),
            resolved=self.resolved,
            resolved_share=_share(self.resolved, self.conversations),
            mean_response_seconds=_share(self.response_seconds, self.responses),
            key_phrases=[phrase for phrase, _ in common[:PHRASES_IN_SUMMARY]],
        )


class Analytics:
    """Analyses conversations, and computes, stores and returns reports."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def analyse_conversation(self, conversation_id: str) -> ConversationAnalysis:
        """Analyse one conversation and replace its stored analysis. Raises NotFound."""
        stored = self._analyse_chunk([conversation_id])
        if not stored:
            raise NotFound("conversation", conversation_id)
        return ConversationAnalysis(**stored[0].values)

    def analyse(
        self,
        conversation_ids: Sequence[str] | None,
        *,
        report_id: str,
        chunk: int = 50,
        progress: Progress | None = None,
    ) -> ConversationAnalysisSummary:
        """Analyse these conversations, or all, and store the totals as the report `report_id`.

        Each chunk is one transaction and overwrites older analyses, so an interrupted run can be repeated whole.
        Unknown ids are counted. `progress` is called before the first chunk and after each chunk.
        """
        ids = None if conversation_ids is None else list(dict.fromkeys(conversation_ids))
        total = self._count() if ids is None else len(ids)
        totals, done = _Totals(), 0
        for part in self._chunks(chunk) if ids is None else _parts(ids, chunk):
            if progress:
                progress(min(done, total), total)
            analysed = self._analyse_chunk(part)
            for analysis in analysed:
                totals.add(analysis)
            totals.unknown += len(part) - len(analysed) if ids is not None else 0
            done += len(part)
        summary = totals.summary()
        self._store_report(report_id, ReportKind.CONVERSATION_ANALYSIS, summary.model_dump(mode="json"))
        if progress:
            progress(max(done, total), max(done, total))
        return summary

    def conversation_report(self, report_id: str, *, start: datetime, end: datetime) -> ReportResponse:
        """Compute and store the report on conversations from `start` up to `end`; a repeat overwrites it."""
        with self._database.reading() as session:
            data = _conversation_figures(session, Period(start, end))
        return self._store_report(
            report_id, ReportKind.CONVERSATION_ANALYTICS, data.model_dump(mode="json"), period=Period(start, end)
        )

    def performance_report(self, report_id: str, *, start: datetime, end: datetime) -> ReportResponse:
        """Compute and store the report on tasks accepted from `start` up to `end`; a repeat overwrites it."""
        period = Period(start, end)
        with self._database.reading() as session:
            total, tasks, queues = (_task_figures(session, group, period) for group in (None, "name", "queue"))
        data = PerformanceReport(total=total[0] if total else _no_tasks(), tasks=tasks, queues=queues)
        return self._store_report(report_id, ReportKind.PERFORMANCE, data.model_dump(mode="json"), period=period)

    def report(self, report_id: str) -> ReportResponse:
        """A stored report. Raises NotFound."""
        with self._database.reading() as session:
            row = repository.report(session, report_id)
            if row is None:
                raise NotFound("report", report_id)
            return _report(row)

    def reports(self, kind: str | None = None, *, limit: int = 20, before: datetime | None = None) -> list[ReportHead]:
        """Stored reports, newest first, at most 200; `before` is `created_at` of the previous page's last report."""
        with self._database.reading() as session:
            rows = repository.reports(session, kind=kind, limit=max(1, min(limit, MAX_REPORTS)), before=before)
            return [ReportHead.model_validate(_report_head(row)) for row in rows]

    def _count(self) -> int:
        with self._database.reading() as session:
            return repository.count_conversations(session)

    def _chunks(self, size: int) -> Iterator[Sequence[str]]:
        """The ids of all conversations, in chunks. No transaction is open between two chunks."""
        after = ""
        while True:
            with self._database.reading() as session:
                ids = repository.conversation_ids(session, after=after, limit=size)
            if not ids:
                return
            yield ids
            after = ids[-1]

    def _analyse_chunk(self, ids: Sequence[str]) -> list[_Analysis]:
        """Analyse a chunk and store it; the result lacks unknown and deleted conversations.

        The analysis runs without the write lock; one short transaction stores it.
        """
        with self._database.reading() as session:
            analysed = [analysis for id in sorted(ids) if (analysis := _analyse(session, id))]
        with self._database.transaction() as session:
            known = repository.lock_conversations(session, [item.values["conversation_id"] for item in analysed])
            kept = [item for item in analysed if item.values["conversation_id"] in known]
            repository.store_analyses(session, [item.values for item in kept])
        return kept

    def _store_report(
        self, id: str, kind: ReportKind, data: dict[str, Any], *, period: Period | None = None
    ) -> ReportResponse:
        row = {
            "id": id,
            "kind": kind.value,
            "data": data,
            "created_at": clock.now(),
            "period_start": period and period.start,
            "period_end": period and period.end,
        }
        with self._database.transaction() as session:
            repository.store_report(session, **row)
        return ReportResponse.model_validate(row)


def is_resolved(facts: ConversationFacts, *, last_sentiment: float) -> bool:
    """Whether a conversation counts as resolved.

    It does if its status says so. Otherwise the customer's last message must be answered and not negative, and at least
    one reply must cite a document or come from an operator: "I do not know" alone resolves nothing.
    """
    if facts.status in RESOLVED_STATUSES:
        return True
    return facts.answered and facts.has_cited_reply and label(last_sentiment) != "negative"


def _analyse(session: Session, id: str) -> _Analysis | None:
    facts = repository.conversation_facts(session, id)
    if facts is None:
        return None
    texts = repository.customer_texts(session, id, limit=MAX_MESSAGES, length=MAX_TEXT)
    scores = [sentiment(text) for text in texts] or [0.0]
    mean_sentiment = round(fmean(scores), 4)
    return _Analysis(
        facts=facts,
        values={
            "conversation_id": id,
            "sentiment": mean_sentiment,
            "sentiment_label": label(mean_sentiment),
            "key_phrases": key_phrases(texts, limit=PHRASES_PER_CONVERSATION),
            "customer_messages": facts.customer_messages,
            "replies": facts.replies,
            "mean_response_seconds": facts.response_seconds,
            "resolved": is_resolved(facts, last_sentiment=scores[-1]),
            "analysed_at": clock.now(),
        },
    )


def _conversation_figures(session: Session, period: Period) -> ConversationAnalytics:
    channels = repository.opened_by_channel(session, period)
    roles = repository.messages_by_role(session, period)
    replies = [role for role in roles if role.role in repository.REPLIES]
    reply_count, cited = sum(role.messages for role in replies), sum(role.with_sources for role in replies)
    customer_messages = sum(role.messages for role in roles if role.role == repository.CUSTOMER)
    responses = repository.response_times(session, period)
    return ConversationAnalytics(
        conversations_opened=sum(channels.values()),
        conversations_by_channel=channels,
        messages_by_role={role.role: role.messages for role in roles},
        replies=reply_count,
        replies_with_sources=cited,
        sources_share=_share(cited, reply_count),
        response_seconds=_durations(responses),
        unanswered=customer_messages - (responses.count if responses else 0),
        prompt_tokens=sum(role.prompt_tokens for role in roles),
        completion_tokens=sum(role.completion_tokens for role in roles),
        days=_days(session, period),
    )


def _days(session: Session, period: Period) -> list[DayFigures]:
    opened, messages = repository.opened_by_day(session, period), repository.messages_by_day(session, period)
    return [
        DayFigures(
            day=day,
            conversations_opened=opened.get(day, 0),
            customer_messages=messages.get(day, (0, 0))[0],
            replies=messages.get(day, (0, 0))[1],
        )
        for day in sorted({*opened, *messages})
    ]


def _task_figures(session: Session, group: Group, period: Period) -> list[TaskFigures]:
    waiting = repository.waiting_times(session, group, period)
    processing = repository.processing_times(session, group, period)
    hours = (period.end - period.start).total_seconds() / 3600
    return [
        _figures(runs, waiting.get(runs.name), processing.get(runs.name), hours=hours)
        for runs in repository.runs_by(session, group, period)
    ]


def _figures(runs: RunFigures, waiting: Measured | None, processing: Measured | None, *, hours: float) -> TaskFigures:
    ended = runs.completed + runs.failed + runs.dead
    return TaskFigures(
        name=runs.name,
        accepted=runs.accepted,
        completed=runs.completed,
        failed=runs.failed,
        dead=runs.dead,
        cancelled=runs.cancelled,
        unfinished=runs.accepted - ended - runs.cancelled,
        retried=runs.retried,
        success_rate=_share(runs.completed, ended),
        waiting_seconds=_durations(waiting),
        processing_seconds=_durations(processing),
        completed_per_hour=_share(runs.completed, hours) or 0.0,
    )


def _no_tasks() -> TaskFigures:
    return _figures(RunFigures(repository.TOTAL, 0, 0, 0, 0, 0, 0), None, None, hours=0)


def _durations(measured: Measured | None) -> Durations:
    if measured is None:
        return Durations(count=0, mean=None, p50=None, p95=None)
    return Durations(count=measured.count, mean=measured.mean, p50=measured.p50, p95=measured.p95)


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _report_head(row: Report) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "created_at": row.created_at,
        "period_start": row.period_start,
        "period_end": row.period_end,
    }


def _report(row: Report) -> ReportResponse:
    return ReportResponse.model_validate({**_report_head(row), "data": row.data})


def _parts(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    left = iter(ids)
    while part := list(islice(left, size)):
        yield part
