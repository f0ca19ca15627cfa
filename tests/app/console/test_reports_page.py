"""The pages of reports: the list, and the figures of each kind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from app.console.bars import HEIGHT, WIDTH, Bar, bars
from app.db.queries import analytics as repository
from app.schemas.conversation import ConversationMessage
from laneway.platform import clock
from laneway.platform.access.scopes import Scope
from tests.fixtures.api_calls import Api, refused, say
from tests.fixtures.console_pages import ESCAPED, HOSTILE, Page
from tests.fixtures.emptied import ONE_DATABASE

LIST = "/console/reports"
SUMMARY = {
    "conversations": 1,
    "unknown": 0,
    "mean_sentiment": 0.0,
    "sentiment_labels": {"neutral": 1},
    "resolved": 1,
    "resolved_share": 1.0,
    "mean_response_seconds": None,
    "key_phrases": [],
}


def period() -> dict[str, Any]:
    """The last day."""
    return {"start": clock.now() - timedelta(days=1), "end": clock.now() + timedelta(minutes=1)}


def store(api: Api, id: str, kind: str, data: dict[str, Any], *, minutes: int = 0) -> None:
    """Store a report that was computed so many minutes ago."""
    values = {"period_start": None, "period_end": None, "created_at": clock.now() - timedelta(minutes=minutes)}
    with api.database.transaction() as session:
        repository.store_report(session, id=id, kind=kind, data=data, **values)


def answer(api: Api, conversation: str, text: str) -> None:
    """Store a customer's message and reply to it, as a worker does."""
    message = ConversationMessage(conversation_id=conversation, message=text)
    api.services.conversations.process_message(message, task_id=f"task-of-{conversation}", progress=lambda *_: None)


@ONE_DATABASE
def test_the_empty_list_says_how_a_report_comes(page: Page) -> None:
    assert "Request one with the buttons above, and a task computes it." in page(LIST)


@ONE_DATABASE
def test_the_list_is_filtered_and_leads_to_older_reports(api: Api, page: Page) -> None:
    store(api, "old", "weekly_workflows", {}, minutes=500)
    for number in range(50):
        store(api, f"r-{number}", "performance", {}, minutes=number)
    html = page(LIST)

    assert f'"{LIST}/r-49"' in html and f'"{LIST}/old"' not in html
    older = html.split(f'href="{LIST}?before=')[1].split('"')[0]
    assert f'"{LIST}/old"' in page(f"{LIST}?before={older}")
    assert f'"{LIST}/old"' in page(f"{LIST}?kind=weekly_workflows")
    assert "No report matches." in page(f"{LIST}?kind=conversation_analysis")
    refused(api, f"{LIST}?kind=odd", 422)
    refused(api, f"{LIST}?odd=1", 422)


def test_a_report_on_conversations_has_a_chart_and_its_figures(api: Api, page: Page) -> None:
    for number in range(3):
        answer(api, f"conv-{number}", "Do you repair e-bikes?")
    api.services.analytics.conversation_report("r-1", **period())
    html = page(f"{LIST}/r-1")

    assert "<b>3</b>conversations began" in html and "<b>3</b>replies" in html
    assert ": 3 messages</title>" in html and ": 3 replies</title>" in html
    assert "<dt>Began by api</dt><dd>3</dd>" in html
    assert "/console/tasks/r-1" not in html, "no task has this id"


def test_a_report_on_tasks_shows_each_name_and_queue(api: Api, page: Page) -> None:
    say(api, "conv-1")
    api.services.analytics.performance_report("r-1", **period())
    html = page(f"{LIST}/r-1")

    assert html.count('<th scope="row" class="cut"') == 3
    assert "process_conversation_message_task</th>" in html
    assert ">conversations</th>" in html


@ONE_DATABASE
def test_the_other_kinds_have_pages_too(api: Api, page: Page) -> None:
    answer(api, "conv-1", "The battery is terrible and awful.")
    api.services.analytics.analyse(None, report_id="r-1", chunk=10)
    api.services.workflow_reports.weekly("r-2", **period())

    assert "<b>1</b>negative" in page(f"{LIST}/r-1")
    assert ">total</th>" in page(f"{LIST}/r-2")


@ONE_DATABASE
def test_figures_of_another_version_are_shown_as_they_are_and_as_text(api: Api, page: Page) -> None:
    store(api, "r-1", "performance", {"figure": HOSTILE, "token": "hunter2"})
    store(api, "r-2", "conversation_analysis", {**SUMMARY, "key_phrases": [HOSTILE]})

    for id in ("r-1", "r-2"):
        html = page(f"{LIST}/{id}")
        assert HOSTILE not in html and ESCAPED in html
        assert "hunter2" not in html
    assert "No report &#39;r-3&#39; is known here." in api.http.get(f"{LIST}/r-3").text


@ONE_DATABASE
def test_a_report_is_requested_by_who_may_submit_tasks(bearer: tuple[Api, Callable[..., dict[str, str]]]) -> None:
    api, headers = bearer
    reader, submitter = headers(Scope.READ), headers(Scope.READ, Scope.SUBMIT)

    assert "data-call" not in api.http.get(LIST, headers=reader).text
    html = api.http.get(LIST, headers=submitter).text
    assert html.count('data-call="POST /analytics/reports"') == 3
    for body in ({"kind": "conversations", "hours": 168}, {"kind": "performance", "hours": 24}):
        assert api.http.post("/analytics/reports", json=body, headers=submitter).status_code == 202


def test_bars_are_drawn_to_scale() -> None:
    drawn = bars([("2026-01-01", {"a": 10, "b": 5}), ("2026-01-02", {"a": 0, "b": 20})])

    assert [bar.height for bar in drawn] == [HEIGHT / 2, HEIGHT / 4, 0, HEIGHT]
    assert all(bar.y + bar.height == HEIGHT for bar in drawn)
    assert drawn[1].x == pytest.approx(drawn[0].x + drawn[0].width)
    assert drawn[-1].title == "2026-01-02: 20 b"
    assert _right(bars([(str(day), {"a": 1}) for day in range(366)])[-1]) <= WIDTH
    assert bars([]) == bars([("2026-01-01", {"a": 0})]) == []


def _right(bar: Bar) -> float:
    return bar.x + bar.width
