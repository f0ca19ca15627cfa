"""Reports: what is computed from stored conversations and from the ledger of tasks, and how it is answered.

Percentiles are by nearest rank: of n values in order, the p-th percentile is the one at place ceil(n * p / 100).
Figures for which there was nothing to measure are null.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from laneway.platform.payload import Identifier, Payload
from laneway.platform.schemas.moment import EARLIEST, LATEST, Moment
from laneway.platform.schemas.statistics import Durations
from laneway.platform.schemas.task import Response


class BatchAnalysis(Payload):
    """Payload of `batch_conversation_analysis_task`; without ids, every conversation."""

    conversation_ids: list[Identifier] | None = Field(None, max_length=10_000)
    chunk: int = Field(50, ge=1, le=1000)


class ReportPeriod(Payload):
    """Payload of the report tasks: a period, by its ends or by the hours up to now."""

    start: Moment | None = None
    end: Moment | None = None
    hours: int = Field(24, ge=1, le=24 * 366, strict=True)

    @model_validator(mode="after")
    def _in_order(self) -> ReportPeriod:
        for moment in (self.start, self.end):
            if moment and not EARLIEST <= moment < LATEST:
                raise ValueError(f"start and end must be between {EARLIEST:%Y} and {LATEST:%Y}")
        if self.start and self.end and self.start >= self.end:
            raise ValueError("start must be before end")
        return self


class WeekPeriod(ReportPeriod):
    """Payload of `generate_weekly_report`: the last seven days, unless said otherwise."""

    hours: int = Field(7 * 24, ge=1, le=24 * 366, strict=True)


class ReportKind(StrEnum):
    """What a report is about."""

    CONVERSATION_ANALYSIS = "conversation_analysis"
    CONVERSATION_ANALYTICS = "conversation_analytics"
    PERFORMANCE = "performance"
    WEEKLY_WORKFLOWS = "weekly_workflows"


class ConversationAnalysisSummary(Response):
    """Many conversations analysed, in sum (`conversation_analysis`)."""

    conversations: int
    unknown: int = Field(description="ids that were asked for and do not exist")
    mean_sentiment: float | None = Field(description="-1 to 1: the mean of the conversations' means")
    sentiment_labels: dict[str, int] = Field(description="positive, neutral and negative conversations")
    resolved: int
    resolved_share: float | None
    mean_response_seconds: float | None = Field(description="over all answered customer messages")
    key_phrases: list[str] = Field(description="the phrases that most conversations share, most common first")


class DayFigures(Response):
    """One day, in UTC."""

    day: str = Field(examples=["2026-01-31"])
    conversations_opened: int
    customer_messages: int
    replies: int


class ConversationAnalytics(Response):
    """What happened in conversations in a period (`conversation_analytics`)."""

    conversations_opened: int
    conversations_by_channel: dict[str, int] = Field(description="opened in the period")
    messages_by_role: dict[str, int]
    replies: int = Field(description="messages by the assistant or an operator")
    replies_with_sources: int
    sources_share: float | None = Field(description="replies that cite a document, of all replies")
    response_seconds: Durations = Field(description="from a customer message of the period to the next reply")
    unanswered: int = Field(description="customer messages of the period that no reply follows")
    prompt_tokens: int
    completion_tokens: int
    days: list[DayFigures] = Field(description="days on which something happened")


class TaskFigures(Response):
    """The tasks of one name, one queue or all that were accepted in a period, by what has become of them."""

    name: str
    accepted: int
    completed: int
    failed: int
    dead: int
    cancelled: int
    unfinished: int
    retried: int = Field(description="started more than once")
    success_rate: float | None = Field(description="completed, of completed, failed and dead")
    waiting_seconds: Durations = Field(description="due to last started: a delay is no waiting")
    processing_seconds: Durations = Field(description="last start to end")
    completed_per_hour: float


class PerformanceReport(Response):
    """How tasks fared in a period (`performance`)."""

    total: TaskFigures
    tasks: list[TaskFigures]
    queues: list[TaskFigures]


class WorkflowFigures(Response):
    """The workflows of one type, or all, that were accepted in a period, by what has become of them."""

    name: str
    runs: int
    completed: int
    failed: int
    cancelled: int
    unfinished: int
    completion_rate: float | None = Field(description="completed, of those that are over")
    mean_duration_seconds: float | None = Field(description="from acceptance to the end, of completed ones")
    weekly_savings: float = Field(description="The weekly savings that completed ones estimated, in sum")


class WeeklyWorkflowReport(Response):
    """How workflows fared in a period (`weekly_workflows`)."""

    total: WorkflowFigures
    types: list[WorkflowFigures]


class ReportHead(Response):
    """A report without its figures."""

    id: str
    kind: str
    period_start: datetime | None
    period_end: datetime | None
    created_at: datetime


class ReportResponse(ReportHead):
    """A report; `data` has the shape that its kind names."""

    data: dict[str, Any]


class ReportList(Response):
    """Reports, newest first."""

    reports: list[ReportHead]
