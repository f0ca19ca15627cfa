"""Analyses of conversations on both databases; the expected figures are computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, event

from app.db.models import Conversation, Message
from app.db.queries.analytics import ConversationFacts
from app.services.analytics.analytics import Analytics, is_resolved
from app.services.integrations.language.sentiment import sentiment
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound
from tests.fixtures.analytics_rows import (
    END,
    SOURCE,
    START,
    add_conversation,
    add_task_runs,
    ask,
    at,
    count_reports,
    reply,
    stored_analyses,
)


@pytest.fixture
def analytics(database: Database) -> Analytics:
    return Analytics(database)


def test_a_conversation_is_analysed_and_the_outcome_stored(database: Database, analytics: Analytics) -> None:
    texts = ["The disc brakes are terrible!", "The disc brakes work. Great, thank you!"]
    add_conversation(
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
    add_conversation(database, "c", ("customer", "I love it", 0))
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
    add_conversation(database, "empty")

    analysis = analytics.analyse_conversation("empty")

    assert (analysis.sentiment, analysis.sentiment_label, analysis.key_phrases) == (0, "neutral", [])
    assert (analysis.mean_response_seconds, analysis.resolved) == (None, False)


def test_an_unknown_conversation_cannot_be_analysed(analytics: Analytics) -> None:
    with pytest.raises(NotFound, match="nobody"):
        analytics.analyse_conversation("nobody")


def test_every_customer_message_waits_for_the_next_reply_of_its_conversation(
    database: Database, analytics: Analytics
) -> None:
    add_conversation(database, "a", *ask(0), *ask(4), *reply(10), *ask(20))
    add_conversation(database, "b", *ask(1), *reply(2), *reply(300))
    add_conversation(database, "early", *ask(5), *reply(4.9))  # two machines, two clocks

    means = [analytics.analyse_conversation(id).mean_response_seconds for id in ("a", "b", "early")]

    assert means == [8.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("status", "answered", "has_cited_reply", "mood", "resolved"),
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
def test_the_rule_of_resolution(
    status: str, answered: bool, has_cited_reply: bool, mood: float, resolved: bool
) -> None:
    facts = ConversationFacts(
        status, 1, 1, answered=answered, has_cited_reply=has_cited_reply, responses=1, response_seconds=1.0
    )

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
    add_conversation(database, "c", *turns)

    assert analytics.analyse_conversation("c").resolved is resolved


def test_many_conversations_are_analysed_in_chunks_with_progress(database: Database, analytics: Analytics) -> None:
    for number in range(23):
        mood = "I love the gravel bike" if number % 2 else "I hate the gravel bike"
        add_conversation(
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
    add_conversation(database, "a", *ask(0), *reply(9))
    add_conversation(database, "b", *ask(0), *reply(1), *ask(10), *reply(11), *ask(20), *reply(21))

    assert analytics.analyse(None, report_id="r").mean_response_seconds == 3.0


def test_chosen_conversations_are_analysed_once_each_and_unknown_ids_are_counted(
    database: Database, analytics: Analytics
) -> None:
    for id in ("a", "b", "c"):
        add_conversation(database, id, ("customer", "Hello", 0))

    summary = analytics.analyse(["c", "nobody", "a", "c", "no-one"], report_id="r", chunk=2)

    assert (summary.conversations, summary.unknown) == (2, 2)
    assert set(stored_analyses(database)) == {"a", "c"}


@pytest.mark.parametrize("ids", [None, []])
def test_an_empty_selection_gives_an_empty_report(analytics: Analytics, ids: list[str] | None) -> None:
    summary = analytics.analyse(ids, report_id="r")

    assert (summary.conversations, summary.mean_sentiment, summary.resolved_share) == (0, None, None)
    assert analytics.report("r").data == summary.model_dump(mode="json")


def test_a_repeated_report_overwrites_the_first_one(database: Database, analytics: Analytics) -> None:
    add_conversation(database, "a", ("customer", "Hello", 0))
    analytics.analyse(None, report_id="r")
    add_conversation(database, "b", ("customer", "Hello", 0))
    analytics.analyse(None, report_id="r")
    analytics.performance_report("p", start=START, end=END)
    add_task_runs(database, {})
    analytics.performance_report("p", start=START, end=END)

    assert count_reports(database) == 2
    assert analytics.report("r").data["conversations"] == 2
    assert analytics.report("p").data["total"]["accepted"] == 1


def test_an_interrupted_run_keeps_its_chunks_and_can_be_repeated(database: Database, analytics: Analytics) -> None:
    for number in range(6):
        add_conversation(database, f"c-{number}", ("customer", "Hello", 0))

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


def test_a_conversation_deleted_during_its_analysis_is_skipped(database: Database, analytics: Analytics) -> None:
    for id in ("a", "b"):
        add_conversation(database, id, ("customer", "Hello", 0))
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
