"""Analyses and reports, computed from stored rows on both databases; expected figures are worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from math import ceil
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, func, insert, select

from app.db.models import Conversation, ConversationAnalysis, Message, Report
from app.db.queries.analytics import ConversationFacts
from app.schemas.analytics import ConversationAnalytics, Durations, PerformanceReport, TaskFigures
from app.services.analytics.analytics import Analytics, is_resolved
from app.services.integrations.text_analysis import sentiment
from laneway.platform.db.models import TaskRun
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound

START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
END = START + timedelta(days=2)
NONE = Durations(count=0, mean=None, p50=None, p95=None)
SOURCE = [{"document_id": "returns.md", "title": "Returns", "position": 0}]
numbers = count(1)


@pytest.fixture
def analytics(database: Database) -> Analytics:
    return Analytics(database)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def conversation(
    database: Database,
    id: str,
    *turns: tuple[str, str, float] | tuple[str, str, float, dict[str, Any]],
    status: str = "open",
    channel: str = "api",
) -> None:
    """A conversation opened with its first turn; a turn is (role, text, seconds after START, other columns)."""
    opened = at(turns[0][2]) if turns else START
    with database.transaction() as session:
        session.add(
            Conversation(id=id, channel=channel, customer={}, status=status, created_at=opened, updated_at=opened)
        )
        session.flush()
        for role, text, seconds, *more in turns:
            columns: dict[str, Any] = {"sources": [], **(more[0] if more else {})}
            session.add(
                Message(
                    conversation_id=id,
                    message_id=f"m-{next(numbers)}",
                    role=role,
                    text=text,
                    created_at=at(seconds),
                    **columns,
                )
            )


def ask(seconds: float) -> list[tuple[str, str, float]]:
    return [("customer", "q", seconds)]


def reply(seconds: float) -> list[tuple[str, str, float]]:
    return [("assistant", "x", seconds)]


def run(database: Database, *runs: dict[str, Any]) -> None:
    """Rows of the ledger: `wait` and `work` are seconds, None for what has not happened."""
    rows: list[dict[str, Any]] = []
    for values in runs:
        wait, work = values.pop("wait", 1.0), values.pop("work", 2.0)
        accepted = values.pop("accepted", START)
        started = None if wait is None else accepted + timedelta(seconds=wait)
        finished = None if started is None or work is None else started + timedelta(seconds=work)
        rows.append(
            {
                "id": f"t-{next(numbers)}",
                "name": "send",
                "queue": "webhooks",
                "priority": 1,
                "payload": {},
                "fingerprint": "f",
                "state": "completed",
                "attempts": 1,
                "max_retries": 3,
                "progress": 0,
                "cancel_requested": False,
                "accepted_at": accepted,
                "started_at": started,
                "finished_at": finished,
                **values,
            }
        )
    with database.transaction() as session:
        session.execute(insert(TaskRun), rows)


def stored_analyses(database: Database) -> dict[str, ConversationAnalysis]:
    with database.reading() as session:
        return {row.conversation_id: row for row in session.scalars(select(ConversationAnalysis))}


def count_reports(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Report)) or 0


def test_a_conversation_is_analysed_and_the_outcome_stored(database: Database, analytics: Analytics) -> None:
    texts = ["The disc brakes are terrible!", "The disc brakes work. Great, thank you!"]
    conversation(
        database,
        "c",
        ("customer", texts[0], 0),
        ("assistant", "Adjust them.", 2.5, {"sources": SOURCE}),
        ("customer", texts[1], 10),
        ("operator", "You are welcome.", 13.5),
    )

    analysis = analytics.analyse_conversation("c")

    assert analysis.sentiment == pytest.approx((sentiment(texts[0]) + sentiment(texts[1])) / 2, abs=1e-4)
    assert analysis.key_phrases[0].startswith("disc brakes")
    assert (analysis.customer_messages, analysis.replies) == (2, 2)
    assert analysis.mean_response_seconds == 3.0
    assert analysis.resolved is True
    stored = stored_analyses(database)["c"]
    for column in ("sentiment", "sentiment_label", "key_phrases", "mean_response_seconds", "resolved", "analysed_at"):
        assert getattr(stored, column) == getattr(analysis, column), column


def test_analysing_again_replaces_the_older_analysis(database: Database, analytics: Analytics) -> None:
    conversation(database, "c", ("customer", "I love it", 0))
    assert analytics.analyse_conversation("c").sentiment_label == "positive"
    with database.transaction() as session:
        session.add(
            Message(
                conversation_id="c",
                message_id="late",
                role="customer",
                text="Now I hate it, it is awful",
                sources=[],
                created_at=at(5),
            )
        )

    assert analytics.analyse_conversation("c").sentiment_label == "negative"
    assert stored_analyses(database)["c"].customer_messages == 2


def test_a_conversation_without_messages_is_neutral_and_unresolved(database: Database, analytics: Analytics) -> None:
    conversation(database, "empty")

    analysis = analytics.analyse_conversation("empty")

    assert (analysis.sentiment, analysis.sentiment_label, analysis.key_phrases) == (0, "neutral", [])
    assert (analysis.mean_response_seconds, analysis.resolved) == (None, False)


def test_an_unknown_conversation_cannot_be_analysed(analytics: Analytics) -> None:
    with pytest.raises(NotFound, match="nobody"):
        analytics.analyse_conversation("nobody")


def test_every_customer_message_waits_for_the_next_reply_of_its_conversation(
    database: Database, analytics: Analytics
) -> None:
    conversation(database, "a", *ask(0), *ask(4), *reply(10), *ask(20))
    conversation(database, "b", *ask(1), *reply(2), *reply(300))
    conversation(database, "early", *ask(5), *reply(4.9))  # two machines, two clocks

    means = [analytics.analyse_conversation(id).mean_response_seconds for id in ("a", "b", "early")]

    assert means == [8.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("status", "answered", "supported", "mood", "resolved"),
    [
        ("open", True, True, 0.0, True),
        ("open", True, True, 0.8, True),
        ("open", True, True, -0.5, False),
        ("open", False, True, 0.8, False),
        ("open", True, False, 0.8, False),
        ("resolved", False, False, -0.9, True),
        ("closed", False, False, 0.0, True),
    ],
)
def test_the_rule_of_resolution(status: str, answered: bool, supported: bool, mood: float, resolved: bool) -> None:
    facts = ConversationFacts(status, 1, 1, answered=answered, supported=supported, responses=1, response_seconds=1.0)

    assert is_resolved(facts, last_sentiment=mood) is resolved


@pytest.mark.parametrize(
    ("turns", "resolved"),
    [
        ([("customer", "Hours?", 0), ("assistant", "I do not know.", 1)], False),
        ([("customer", "Hours?", 0), ("assistant", "9 to 5.", 1, {"sources": SOURCE})], True),
        ([("customer", "Hours?", 0), ("operator", "9 to 5.", 1)], True),
        ([("customer", "Hours?", 0), ("operator", "9 to 5.", 1), ("customer", "And Sunday?", 2)], False),
        ([("customer", "Hours?", 0), ("operator", "9.", 1), ("customer", "I hate it", 2), ("operator", "!", 3)], False),
        ([("assistant", "Hello, can we help?", 0, {"sources": SOURCE})], False),
    ],
)
def test_resolution_is_read_from_the_messages(
    database: Database, analytics: Analytics, turns: list[tuple[str, str, float]], resolved: bool
) -> None:
    conversation(database, "c", *turns)

    assert analytics.analyse_conversation("c").resolved is resolved


def test_many_conversations_are_analysed_in_chunks_with_progress(database: Database, analytics: Analytics) -> None:
    for number in range(23):
        mood = "I love the gravel bike" if number % 2 else "I hate the gravel bike"
        conversation(
            database, f"c-{number:02}", ("customer", mood, 0), ("assistant", "Answer", number, {"sources": SOURCE})
        )
    seen: list[tuple[int, int]] = []

    summary = analytics.analyse(None, report_id="r", chunk=10, progress=lambda done, total: seen.append((done, total)))

    assert seen == [(0, 23), (10, 23), (20, 23), (23, 23)]
    assert (summary.conversations, summary.unknown) == (23, 0)
    assert summary.sentiment_labels == {"positive": 11, "neutral": 0, "negative": 12}
    assert (summary.resolved, summary.resolved_share) == (11, round(11 / 23, 4))
    assert summary.mean_response_seconds == 11.0
    moods = 11 * sentiment("I love the gravel bike") + 12 * sentiment("I hate the gravel bike")
    assert summary.mean_sentiment == pytest.approx(moods / 23, abs=1e-4)
    assert "gravel bike" in " ".join(summary.key_phrases)
    assert len(stored_analyses(database)) == 23


def test_the_mean_response_weighs_every_answer_and_not_every_conversation(
    database: Database, analytics: Analytics
) -> None:
    conversation(database, "a", *ask(0), *reply(9))
    conversation(database, "b", *ask(0), *reply(1), *ask(10), *reply(11), *ask(20), *reply(21))

    assert analytics.analyse(None, report_id="r").mean_response_seconds == 3.0


def test_chosen_conversations_are_analysed_once_each_and_unknown_ids_are_counted(
    database: Database, analytics: Analytics
) -> None:
    for id in ("a", "b", "c"):
        conversation(database, id, ("customer", "Hello", 0))

    summary = analytics.analyse(["c", "nobody", "a", "c", "no-one"], report_id="r", chunk=2)

    assert (summary.conversations, summary.unknown) == (2, 2)
    assert set(stored_analyses(database)) == {"a", "c"}


@pytest.mark.parametrize("ids", [None, []])
def test_nothing_to_analyse_is_a_report_too(analytics: Analytics, ids: list[str] | None) -> None:
    summary = analytics.analyse(ids, report_id="r")

    assert (summary.conversations, summary.mean_sentiment, summary.resolved_share) == (0, None, None)
    assert analytics.report("r").data == summary.model_dump(mode="json")


def test_the_same_report_again_overwrites_and_never_doubles(database: Database, analytics: Analytics) -> None:
    conversation(database, "a", ("customer", "Hello", 0))
    analytics.analyse(None, report_id="r")
    conversation(database, "b", ("customer", "Hello", 0))
    analytics.analyse(None, report_id="r")
    analytics.performance_report("p", start=START, end=END)
    run(database, {})
    analytics.performance_report("p", start=START, end=END)

    assert count_reports(database) == 2
    assert analytics.report("r").data["conversations"] == 2
    assert analytics.report("p").data["total"]["accepted"] == 1


def test_a_run_that_broke_off_keeps_its_chunks_and_can_be_repeated(database: Database, analytics: Analytics) -> None:
    for number in range(6):
        conversation(database, f"c-{number}", ("customer", "Hello", 0))

    def stop(done: int, _total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analytics.analyse(None, report_id="r", chunk=2, progress=stop)
    assert len(stored_analyses(database)) == 4
    with pytest.raises(NotFound):
        analytics.report("r")

    assert analytics.analyse(None, report_id="r", chunk=2).conversations == 6
    assert len(stored_analyses(database)) == 6


def test_a_conversation_deleted_while_it_is_analysed_does_no_harm(database: Database, analytics: Analytics) -> None:
    for id in ("a", "b"):
        conversation(database, id, ("customer", "Hello", 0))
    deleted: list[str] = []

    @event.listens_for(database.engine, "after_cursor_execute")
    def delete_once_read(*arguments: Any) -> None:  # the texts have been read, nothing has been stored yet
        if "substr" in arguments[2] and not deleted:
            deleted.append("a")
            with database.engine.begin() as connection:
                connection.execute(delete(Conversation).where(Conversation.id == "a"))

    summary = analytics.analyse(["a", "b"], report_id="r")

    assert deleted == ["a"]
    assert (summary.conversations, summary.unknown) == (1, 1)
    assert set(stored_analyses(database)) == {"b"}


def test_the_conversation_report_counts_a_period(database: Database, analytics: Analytics) -> None:
    day = 86_400
    conversation(
        database,
        "a",
        ("customer", "q", 0),
        ("assistant", "x", 1, {"sources": SOURCE, "prompt_tokens": 10, "completion_tokens": 4}),
        ("customer", "q", 60),
        ("assistant", "x", 63, {"prompt_tokens": 5, "completion_tokens": 1}),
    )
    conversation(database, "b", *ask(day), ("operator", "x", day + 5), *ask(day + 9), channel="facebook")
    conversation(database, "late reply", *ask(2 * day - 1), *reply(2 * day + 6))
    conversation(database, "before", *ask(-1), *reply(1))
    conversation(database, "after", *ask(2 * day))

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


def test_a_day_is_a_day_in_utc(database: Database, analytics: Analytics) -> None:
    conversation(database, "a", ("customer", "q", 16 * 3600 - 0.000001), ("assistant", "x", 16 * 3600))

    days = ConversationAnalytics.model_validate(analytics.conversation_report("r", start=START, end=END).data).days

    assert [(day.day, day.customer_messages, day.replies) for day in days] == [
        ("2026-03-01", 1, 0),
        ("2026-03-02", 0, 1),
    ]


def test_an_empty_period_has_no_figures_and_no_invented_ones(analytics: Analytics) -> None:
    data = ConversationAnalytics.model_validate(analytics.conversation_report("r", start=START, end=END).data)
    tasks = PerformanceReport.model_validate(analytics.performance_report("p", start=START, end=END).data)

    assert (data.replies, data.sources_share, data.response_seconds, data.days) == (0, None, NONE, [])
    assert (tasks.total.accepted, tasks.total.success_rate, tasks.total.waiting_seconds) == (0, None, NONE)
    assert (tasks.tasks, tasks.queues) == ([], [])


def test_the_performance_report_counts_by_task_and_queue(database: Database, analytics: Analytics) -> None:
    run(
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
    run(database, *({"wait": 0, "work": micro / 1_000_000} for micro in micros))

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
