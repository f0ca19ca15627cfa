"""Reports on conversations and tasks on both databases; the expected figures are computed by hand."""

from __future__ import annotations

from datetime import timedelta
from math import ceil

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from app.schemas.analytics import ConversationAnalytics, Durations, PerformanceReport, TaskFigures
from app.services.analytics.analytics import Analytics
from laneway.platform.db.models import TaskRun
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound
from tests.fixtures.analytics_rows import (
    END,
    NONE,
    SOURCE,
    START,
    add_conversation,
    add_task_runs,
    ask,
    reply,
)


@pytest.fixture
def analytics(database: Database) -> Analytics:
    return Analytics(database)


def test_the_conversation_report_counts_a_period(database: Database, analytics: Analytics) -> None:
    day = 86_400
    add_conversation(
        database,
        "a",
        ("customer", "q", 0),
        ("assistant", "x", 1, {"sources": SOURCE, "prompt_tokens": 10, "completion_tokens": 4}),
        ("customer", "q", 60),
        ("assistant", "x", 63, {"prompt_tokens": 5, "completion_tokens": 1}),
    )
    add_conversation(database, "b", *ask(day), ("operator", "x", day + 5), *ask(day + 9), channel="facebook")
    add_conversation(database, "late reply", *ask(2 * day - 1), *reply(2 * day + 6))
    add_conversation(database, "before", *ask(-1), *reply(1))
    add_conversation(database, "after", *ask(2 * day))

    report = analytics.conversation_report("r", start=START, end=END)

    assert (report.kind, report.period_start, report.period_end) == ("conversation_analytics", START, END)
    data = ConversationAnalytics.model_validate(report.data)
    assert data.conversations_by_channel == {"api": 2, "facebook": 1}
    assert data.conversations_opened == 3
    assert data.messages_by_role == {"assistant": 3, "customer": 5, "operator": 1}
    assert (data.replies, data.replies_with_sources, data.sources_share) == (4, 1, 0.25)
    assert data.response_seconds == Durations(count=4, mean=4.0, p50=3.0, p95=7.0)
    assert data.unanswered == 1
    assert (data.prompt_tokens, data.completion_tokens) == (15, 5)
    assert [(d.day, d.conversations_opened, d.customer_messages, d.replies) for d in data.days] == [
        ("2026-03-01", 1, 2, 3),
        ("2026-03-02", 1, 2, 1),
        ("2026-03-03", 1, 1, 0),
    ]
    assert analytics.report("r") == report


def test_days_are_counted_in_utc(database: Database, analytics: Analytics) -> None:
    add_conversation(database, "a", ("customer", "q", 16 * 3600 - 0.000001), ("assistant", "x", 16 * 3600))

    days = ConversationAnalytics.model_validate(analytics.conversation_report("r", start=START, end=END).data).days

    assert [(day.day, day.customer_messages, day.replies) for day in days] == [
        ("2026-03-01", 1, 0),
        ("2026-03-02", 0, 1),
    ]


def test_an_empty_period_has_null_figures(analytics: Analytics) -> None:
    data = ConversationAnalytics.model_validate(analytics.conversation_report("r", start=START, end=END).data)
    tasks = PerformanceReport.model_validate(analytics.performance_report("p", start=START, end=END).data)

    assert (data.replies, data.sources_share, data.response_seconds, data.days) == (0, None, NONE, [])
    assert (tasks.total.accepted, tasks.total.success_rate, tasks.total.waiting_seconds) == (0, None, NONE)
    assert (tasks.tasks, tasks.queues) == ([], [])


def test_the_performance_report_counts_by_task_and_queue(database: Database, analytics: Analytics) -> None:
    add_task_runs(
        database,
        {"wait": 1, "work": 2},
        {"wait": 3, "work": 4},
        {"wait": 99, "work": 6, "attempts": 3},
        {"state": "dead_letter", "work": 8, "attempts": 4},
        {"state": "failed", "wait": 2, "work": 10},
        {"state": "cancelled", "wait": None, "attempts": 0},
        {"state": "pending", "wait": None, "attempts": 0},
        {"state": "processing", "wait": 2, "work": None},
        {"state": "scheduled", "work": None, "wait": 4},
        {"name": "reply", "queue": "conversations", "wait": 0.25, "work": 0.5},
        {"name": "purge", "queue": "webhooks", "state": "held", "wait": None, "attempts": 0},
        {"accepted": START - timedelta(microseconds=1)},
        {"accepted": END},
    )

    data = PerformanceReport.model_validate(analytics.performance_report("p", start=START, end=END).data)

    assert [figures.name for figures in data.tasks] == ["purge", "reply", "send"]
    assert [(figures.name, figures.accepted) for figures in data.queues] == [("conversations", 1), ("webhooks", 10)]
    assert data.tasks[2] == TaskFigures(
        name="send",
        accepted=9,
        completed=3,
        failed=1,
        dead=1,
        cancelled=1,
        unfinished=3,
        retried=2,
        success_rate=0.6,
        waiting_seconds=Durations(count=5, mean=2.4, p50=2.0, p95=4.0),
        processing_seconds=Durations(count=5, mean=6.0, p50=6.0, p95=10.0),
        completed_per_hour=0.0625,
    )
    assert data.tasks[1].processing_seconds == Durations(count=1, mean=0.5, p50=0.5, p95=0.5)
    assert (data.total.name, data.total.accepted, data.total.completed) == ("all", 11, 4)
    assert data.total.processing_seconds.count == 6


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(micros=st.lists(st.integers(0, 10**9), min_size=1, max_size=60))
@example(micros=[124_999_500])  # less than a millisecond before a full second
def test_percentiles_are_by_nearest_rank_to_the_microsecond(
    database: Database, analytics: Analytics, micros: list[int]
) -> None:
    with database.transaction() as session:
        session.execute(delete(TaskRun))
    add_task_runs(database, *({"wait": 0, "work": micro / 1_000_000} for micro in micros))

    data = PerformanceReport.model_validate(analytics.performance_report("p", start=START, end=END).data)

    worked = data.total.processing_seconds
    p50, p95 = (sorted(micros)[ceil(len(micros) * percent / 100) - 1] / 1_000_000 for percent in (50, 95))
    assert (worked.count, worked.p50, worked.p95) == (len(micros), p50, p95)
    assert worked.mean == pytest.approx(sum(micros) / len(micros) / 1_000_000, abs=2e-6)


def test_reports_are_listed_newest_first_by_kind_and_page(database: Database, analytics: Analytics) -> None:
    for number in range(3):
        analytics.performance_report(f"p-{number}", start=START, end=END)
        analytics.conversation_report(f"c-{number}", start=START, end=END)

    assert [report.id for report in analytics.reports()] == ["c-2", "p-2", "c-1", "p-1", "c-0", "p-0"]
    page = analytics.reports("performance", limit=2)
    assert [report.id for report in page] == ["p-2", "p-1"]
    assert [report.id for report in analytics.reports("performance", limit=2, before=page[-1].created_at)] == ["p-0"]
    assert analytics.reports("nothing") == []


def test_an_unknown_report_is_an_error_that_names_it(analytics: Analytics) -> None:
    with pytest.raises(NotFound, match="report 'r'"):
        analytics.report("r")
