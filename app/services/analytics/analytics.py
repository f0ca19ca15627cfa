"""Conversations analysed one by one and in sum, and the reports that are computed from what is stored."""

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
from app.schemas.report import (
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
from app.services.integrations import text_analysis
from laneway.platform import clock
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound

Progress = Callable[[int, int], None]
"""Told how many are done, of how many."""

MAX_MESSAGES: Final = 500
"""The newest messages of a customer that sentiment and key phrases are taken from."""
PHRASES_EACH: Final = 10
PHRASES_IN_SUM: Final = 20
PHRASES_REMEMBERED: Final = 20_000
"""How many phrases are counted over many conversations; when there are twice as many, the rarer half is forgotten."""
MAX_REPORTS: Final = 200
DONE: Final = frozenset({"resolved", "closed"})


@dataclass(frozen=True, slots=True)
class _Analysed:
    """One conversation, analysed: what is stored, and what the sum needs besides."""

    values: dict[str, Any]
    facts: ConversationFacts


@dataclass(slots=True)
class _Sum:
    """What is remembered of the conversations that have been analysed."""

    conversations: int = 0
    unknown: int = 0
    resolved: int = 0
    sentiment: float = 0
    responses: int = 0
    response_seconds: float = 0
    labels: Counter[str] = field(default_factory=lambda: Counter(positive=0, neutral=0, negative=0))
    phrases: Counter[str] = field(default_factory=Counter[str])

    def add(self, one: _Analysed) -> None:
        """Count one conversation in."""
        self.conversations += 1
        self.resolved += one.values["resolved"]
        self.sentiment += one.values["sentiment"]
        self.responses += one.facts.responses
        self.response_seconds += one.facts.responses * (one.facts.response_seconds or 0)
        self.labels[one.values["sentiment_label"]] += 1
        self.phrases.update(one.values["key_phrases"])
        if len(self.phrases) > 2 * PHRASES_REMEMBERED:
            self.phrases = Counter(dict(self.phrases.most_common(PHRASES_REMEMBERED)))

    def summary(self) -> ConversationAnalysisSummary:
        """The figures."""
        common = sorted(self.phrases.items(), key=lambda item: (-item[1], item[0]))
        return ConversationAnalysisSummary(
            conversations=self.conversations,
            unknown=self.unknown,
            mean_sentiment=_share(self.sentiment, self.conversations),
            sentiment_labels=dict(self.labels),
            resolved=self.resolved,
            resolved_share=_share(self.resolved, self.conversations),
            mean_response_seconds=_share(self.response_seconds, self.responses),
            key_phrases=[phrase for phrase, _ in common[:PHRASES_IN_SUM]],
        )


class Analytics:
    """Analyses conversations, computes reports and gives them out."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def analyse_conversation(self, conversation_id: str) -> ConversationAnalysis:
        """Analyse one conversation and store the outcome in the place of the older one. Raises NotFound."""
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
        """Analyse these conversations, or all; the sum is also kept as a report under `report_id`.

        Each chunk is one transaction, and doing one again overwrites: a run that breaks off can be repeated whole.
        Unknown ids are counted. `progress` is called before the first chunk and after each one.
        """
        ids = None if conversation_ids is None else list(dict.fromkeys(conversation_ids))
        total = self._count() if ids is None else len(ids)
        sums, done = _Sum(), 0
        for part in self._chunks(chunk) if ids is None else _parts(ids, chunk):
            if progress:
                progress(min(done, total), total)
            analysed = self._analyse_chunk(part)
            for one in analysed:
                sums.add(one)
            sums.unknown += len(part) - len(analysed) if ids is not None else 0
            done += len(part)
        summary = sums.summary()
        self._keep(report_id, ReportKind.CONVERSATION_ANALYSIS, summary.model_dump(mode="json"))
        if progress:
            progress(max(done, total), max(done, total))
        return summary

    def conversation_report(self, report_id: str, *, start: datetime, end: datetime) -> ReportResponse:
        """Compute and keep what happened in conversations from `start` up to `end`; a repeat overwrites."""
        with self._database.reading() as session:
            data = _conversations(session, Period(start, end))
        return self._keep(
            report_id, ReportKind.CONVERSATION_ANALYTICS, data.model_dump(mode="json"), period=Period(start, end)
        )

    def performance_report(self, report_id: str, *, start: datetime, end: datetime) -> ReportResponse:
        """Compute and keep how the tasks accepted from `start` up to `end` fared; a repeat overwrites."""
        period = Period(start, end)
        with self._database.reading() as session:
            total, tasks, queues = (_task_figures(session, group, period) for group in (None, "name", "queue"))
        data = PerformanceReport(total=total[0] if total else _no_tasks(), tasks=tasks, queues=queues)
        return self._keep(report_id, ReportKind.PERFORMANCE, data.model_dump(mode="json"), period=period)

    def report(self, report_id: str) -> ReportResponse:
        """A kept report. Raises NotFound."""
        with self._database.reading() as session:
            found = repository.report(session, report_id)
            if found is None:
                raise NotFound("report", report_id)
            return _answer(found)

    def reports(self, kind: str | None = None, *, limit: int = 20, before: datetime | None = None) -> list[ReportHead]:
        """Kept reports, newest first, at most 200; `before` is the `created_at` of the last of the page before."""
        with self._database.reading() as session:
            rows = repository.reports(session, kind=kind, limit=max(1, min(limit, MAX_REPORTS)), before=before)
            return [ReportHead.model_validate(_head(row)) for row in rows]

    def _count(self) -> int:
        with self._database.reading() as session:
            return repository.count_conversations(session)

    def _chunks(self, size: int) -> Iterator[Sequence[str]]:
        """The ids of all conversations; no transaction is open between two chunks."""
        after = ""
        while True:
            with self._database.reading() as session:
                ids = repository.conversation_ids(session, after=after, limit=size)
            if not ids:
                return
            yield ids
            after = ids[-1]

    def _analyse_chunk(self, ids: Sequence[str]) -> list[_Analysed]:
        """Read and think without the write lock, then store in one transaction; the unknown and deleted are missing."""
        with self._database.reading() as session:
            found = [one for id in sorted(ids) if (one := _analyse(session, id))]
        with self._database.transaction() as session:
            known = repository.lock_conversations(session, [one.values["conversation_id"] for one in found])
            kept = [one for one in found if one.values["conversation_id"] in known]
            repository.store_analyses(session, [one.values for one in kept])
        return kept

    def _keep(self, id: str, kind: ReportKind, data: dict[str, Any], *, period: Period | None = None) -> ReportResponse:
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

    It was marked so; or the customer's last message was answered and is not negative, and at least one reply rests
    on a document or came from an operator: "I do not know" alone resolves nothing.
    """
    if facts.status in DONE:
        return True
    return facts.answered and facts.supported and text_analysis.label(last_sentiment) != "negative"


def _analyse(session: Session, id: str) -> _Analysed | None:
    facts = repository.conversation_facts(session, id)
    if facts is None:
        return None
    texts = repository.customer_texts(session, id, limit=MAX_MESSAGES, length=text_analysis.MAX_TEXT)
    moods = [text_analysis.sentiment(text) for text in texts] or [0.0]
    sentiment = round(fmean(moods), 4)
    return _Analysed(
        facts=facts,
        values={
            "conversation_id": id,
            "sentiment": sentiment,
            "sentiment_label": text_analysis.label(sentiment),
            "key_phrases": text_analysis.key_phrases(texts, limit=PHRASES_EACH),
            "customer_messages": facts.customer_messages,
            "replies": facts.replies,
            "mean_response_seconds": facts.response_seconds,
            "resolved": is_resolved(facts, last_sentiment=moods[-1]),
            "analysed_at": clock.now(),
        },
    )


def _conversations(session: Session, period: Period) -> ConversationAnalytics:
    channels = repository.opened_by_channel(session, period)
    roles = repository.messages_by_role(session, period)
    replies = [role for role in roles if role.role in repository.REPLIES]
    number, cited = sum(role.messages for role in replies), sum(role.with_sources for role in replies)
    asked = sum(role.messages for role in roles if role.role == repository.CUSTOMER)
    responses = repository.response_times(session, period)
    return ConversationAnalytics(
        conversations_opened=sum(channels.values()),
        conversations_by_channel=channels,
        messages_by_role={role.role: role.messages for role in roles},
        replies=number,
        replies_with_sources=cited,
        sources_share=_share(cited, number),
        response_seconds=_durations(responses),
        unanswered=asked - (responses.count if responses else 0),
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
    over = runs.completed + runs.failed + runs.dead
    return TaskFigures(
        name=runs.name,
        accepted=runs.accepted,
        completed=runs.completed,
        failed=runs.failed,
        dead=runs.dead,
        cancelled=runs.cancelled,
        unfinished=runs.accepted - over - runs.cancelled,
        retried=runs.retried,
        success_rate=_share(runs.completed, over),
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


def _head(row: Report) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "created_at": row.created_at,
        "period_start": row.period_start,
        "period_end": row.period_end,
    }


def _answer(row: Report) -> ReportResponse:
    return ReportResponse.model_validate({**_head(row), "data": row.data})


def _parts(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    left = iter(ids)
    while part := list(islice(left, size)):
        yield part
