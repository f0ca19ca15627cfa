"""Analytics: payloads of the report tasks, the figures of reports, and responses of the API.

Percentiles use the nearest rank: of n sorted values, the p-th percentile is the one at rank ceil(n * p / 100).
A figure without any measured value is null.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from laneway.schemas.moment import EARLIEST, LATEST, Moment
from laneway.schemas.number import Whole
from laneway.schemas.payload import Identifier, Payload
from laneway.schemas.statistics import Durations
from laneway.schemas.task import Response


class BatchAnalysis(Payload):
    """Payload of `batch_conversation_analysis_task`; without ids every conversation is analysed."""

    conversation_ids: list[Identifier] | None = Field(None, max_length=10_000)
    chunk: int = Field(50, ge=1, le=1000)


class ReportPeriod(Payload):
    """Payload of the report tasks: a period, given by start and end or by the hours up to now."""

    start: Moment | None = None
    end: Moment | None = None
    hours: Whole = Field(24, ge=1, le=24 * 366)

    @model_validator(mode="after")
    def _check_order(self) -> ReportPeriod:
        for moment in (self.start, self.end):
            if moment and not EARLIEST <= moment < LATEST:
                raise ValueError(f"start and end must be between {EARLIEST:%Y} and {LATEST:%Y}")
        if self.start and self.end and self.start >= self.end:
            raise ValueError("start must be before end")
        return self


class WeekPeriod(ReportPeriod):
    """Payload of `generate_weekly_report`: the last seven days by default."""

    hours: Whole = Field(7 * 24, ge=1, le=24 * 366)


class ReportKind(StrEnum):
    """The subject of a report."""

    CONVERSATION_ANALYSIS = "conversation_analysis"
    CONVERSATION_ANALYTICS = "conversation_analytics"
    PERFORMANCE = "performance"
    WEEKLY_WORKFLOWS = "weekly_workflows"


class ConversationAnalysisSummary(Response):
    """Totals over the analyses of many conversations (`conversation_analysis`)."""

    conversations: int
    unknown: int = Field(description="requested ids that do not exist")
    mean_sentiment: float | None = Field(description="-1 to 1: the mean over the means of the conversations")
    sentiment_labels: dict[str, int] = Field(description="number of positive, neutral and negative conversations")
    resolved: int
    resolved_share: float | None
    mean_response_seconds: float | None = Field(description="over all answered customer messages")
    key_phrases: list[str] = Field(description="the most common phrases, counted once per conversation")


class DayFigures(Response):
    """One day, in UTC."""

    day: str = Field(examples=["2026-01-31"])
    conversations_opened: int
    customer_messages: int
    replies: int


class ConversationAnalytics(Response):
    """Conversations and messages of a period (`conversation_analytics`)."""

    conversations_opened: int
    conversations_by_channel: dict[str, int] = Field(description="conversations opened in the period")
    messages_by_role: dict[str, int]
    replies: int = Field(description="messages by the assistant or an operator")
    replies_with_sources: int
    sources_share: float | None = Field(description="share of the replies that cite a document")
    response_seconds: Durations = Field(description="from a customer message of the period to the next reply")
    unanswered: int = Field(description="customer messages of the period that no reply follows")
    prompt_tokens: int
    completion_tokens: int
    days: list[DayFigures] = Field(description="days with at least one conversation or message")


class TaskFigures(Response):
    """The tasks of one name, one queue or all that were accepted in a period, by their present state."""

    name: str
    accepted: int
    completed: int
    failed: int
    dead: int
    cancelled: int
    unfinished: int
    retried: int = Field(description="started more than once")
    success_rate: float | None = Field(description="share of completed tasks among completed, failed and dead ones")
    waiting_seconds: Durations = Field(description="from the moment a task is due to its last start")
    processing_seconds: Durations = Field(description="from the last start to the end")
    completed_per_hour: float


class PerformanceReport(Response):
    """The tasks of a period (`performance`)."""

    total: TaskFigures
    tasks: list[TaskFigures]
    queues: list[TaskFigures]


class WorkflowFigures(Response):
    """The workflows of one type, or all, that were accepted in a period, by their present state."""

    name: str
    runs: int
    completed: int
    failed: int
    cancelled: int
    unfinished: int
    completion_rate: float | None = Field(description="share of completed workflows among those that have ended")
    mean_duration_seconds: float | None = Field(description="from acceptance to the end, over completed workflows")
    weekly_savings: float = Field(description="sum of the weekly savings that completed workflows estimated")


class WeeklyWorkflowReport(Response):
    """The workflows of a period (`weekly_workflows`)."""

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
    """A report; its kind says which figures `data` has."""

    data: dict[str, Any]


class ReportList(Response):
    """Reports, newest first."""

    reports: list[ReportHead]
