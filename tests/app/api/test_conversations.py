"""Messages, interactions and histories over HTTP, with every response that the OpenAPI document lists."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import update

from app.db.models import Conversation, Message
from app.db.queries import conversations as repository
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.session import Database
from laneway.platform.errors import DatabaseUnavailable
from laneway.schemas.task import TaskState
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import SHORT_REPLY_TIMEOUT, Api, problem
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.site import Site
from tests.fixtures.valkey import RedisUrls
from tests.fixtures.waiting import wait_until

QUESTION = "How long do I have to return a bicycle?"


def test_a_message_is_accepted_at_once(api: Api) -> None:
    answer = api.say(text=QUESTION)

    assert answer.status_code == 202
    body = answer.json()
    assert (body["status"], body["conversation_id"], body["response"]) == (
        "processing",
        "conv-1",
        "Message received and being processed.",
    )
    assert api.services.tasks.status(body["task_id"]).status is TaskState.PENDING
    assert api.queued() == 1


def test_without_a_worker_a_synchronous_message_is_answered_as_if_asynchronous(api: Api) -> None:
    began = monotonic()
    answer = api.say(async_processing=False)

    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    assert SHORT_REPLY_TIMEOUT <= monotonic() - began < SHORT_REPLY_TIMEOUT + 3
    assert api.count(TaskRun) == 1


def test_a_synchronous_message_is_answered_with_reply_and_sources(live: Site) -> None:
    message = {"conversation_id": "sync-1", "message": QUESTION, "async_processing": False}
    answer = live.http.post("/conversations/message", json=message)

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["status"] == "completed"
    assert "[1]" in body["response"]
    assert body["sources"][0]["document_id"] == "returns-and-refunds.md"
    history = live.get("/conversations/sync-1")
    assert [turn["role"] for turn in history["messages"]] == ["customer", "assistant"]
    assert history["messages"][1]["sources"] == body["sources"]


def test_an_asynchronous_message_ends_with_its_reply_in_the_task(live: Site) -> None:
    task = live.post("/conversations/message", {"conversation_id": "async-1", "message": QUESTION})["task_id"]
    live.until(task, TaskState.COMPLETED)

    status = live.get(f"/conversations/tasks/{task}/status")
    assert (status["status"], status["progress"], status["attempts"]) == ("completed", 100, 1)
    assert "[1]" in status["result"]["ai_response"]
    times = [datetime.fromisoformat(status[name]) for name in ("accepted_at", "started_at", "finished_at")]
    assert times == sorted(times)


def test_the_same_message_id_is_one_task(api: Api) -> None:
    first, second = api.say(message_id="m-1"), api.say(message_id="m-1")

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert api.count(TaskRun) == api.queued() == 1


def test_the_same_message_id_many_times_at_once_is_one_task(api: Api) -> None:
    def say(_: int) -> Any:
        return api.say(message_id="m-1")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(say, range(16)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["task_id"] for answer in answers}) == 1
    assert api.count(TaskRun) == api.queued() == 1


def test_the_same_message_id_in_another_conversation_is_another_task(api: Api) -> None:
    assert api.say("a", message_id="m-1").json()["task_id"] != api.say("b", message_id="m-1").json()["task_id"]


def test_the_same_message_id_with_another_text_is_a_conflict(api: Api) -> None:
    api.say(message_id="m-1")

    found = problem(api.say(text="Something else", message_id="m-1"), 409)
    assert found["type"] == "urn:laneway:problem:conflict"
    assert api.count(TaskRun) == 1


def test_a_synchronous_repeat_of_an_expired_message_is_gone(api: Api) -> None:
    task = api.say(message_id="m-1").json()["task_id"]
    _end(api, task, hours_ago=25)

    problem(api.say(message_id="m-1", async_processing=False), 410)


@ONE_DATABASE
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"message": "Hello"}, "body.conversation_id"),
        ({"conversation_id": "c"}, "body.message"),
        ({"conversation_id": "c", "message": "  "}, "body.message"),
        ({"conversation_id": "c", "message": "x" * 8001}, "body.message"),
        ({"conversation_id": "c", "message": 5}, "body.message"),
        ({"conversation_id": "c", "message": None}, "body.message"),
        ({"conversation_id": "c", "message": "a\x00b"}, "body.message"),
        ({"conversation_id": "../etc", "message": "Hello"}, "body.conversation_id"),
        ({"conversation_id": "c\n", "message": "Hello"}, "body.conversation_id"),
        ({"conversation_id": "ü", "message": "Hello"}, "body.conversation_id"),
        ({"conversation_id": "c", "message": "Hello", "message_id": ""}, "body.message_id"),
        ({"conversation_id": "c", "message": "Hello", "mesage_id": "typo"}, "body.mesage_id"),
        ({"conversation_id": "c", "message": "Hello", "async_processing": "yes"}, "body.async_processing"),
        ({"conversation_id": "c", "message": "Hello", "async_processing": 1}, "body.async_processing"),
        ({"conversation_id": "c", "message": "Hello", "priority": "URGENT"}, "body.priority"),
        ({"conversation_id": "c", "message": "Hello", "priority": 3}, "body.priority"),
        ({"conversation_id": "c", "message": "Hello", "channel": "facebook"}, "body.channel"),
        ({"conversation_id": "c", "message": "Hello", "customer": {"name": "x" * 201}}, "body.customer.name"),
        ({"conversation_id": "c", "message": "Hello", "customer": {"age": 5}}, "body.customer.age"),
        ([], "body"),
        (None, "body"),
    ],
)
def test_an_invalid_message_is_refused_field_by_field(api: Api, body: object, field: str) -> None:
    found = problem(api.http.post("/conversations/message", json=body), 422)

    assert field in [item["field"] for item in found["errors"]]
    assert api.count(TaskRun) == 0


def test_a_full_queue_answers_with_retry_after_and_queues_nothing(make_api: MakeApi) -> None:
    api = make_api(MAX_QUEUE_SIZE="2")
    assert [api.say(f"c-{number}").status_code for number in range(2)] == [202, 202]

    refused = api.say("c-3")
    assert problem(refused, 429)["type"] == "urn:laneway:problem:queue-full"
    assert int(refused.headers["retry-after"]) >= 1
    assert api.count(TaskRun) == api.queued() == 2
    elsewhere = api.http.post("/analytics/reports", json={"kind": "performance"})
    assert elsewhere.status_code == 202, "another queue has room"


def test_a_known_message_id_is_answered_even_when_the_queue_is_full(make_api: MakeApi) -> None:
    api = make_api(MAX_QUEUE_SIZE="1")
    first = api.say(message_id="m-1")

    assert api.say(message_id="m-1").json() == first.json()


def test_while_the_broker_is_away_messages_are_accepted_and_afterwards_sent(api: Api, redis_urls: RedisUrls) -> None:
    redis_urls.valkey.stop()
    began = monotonic()
    taken = api.say(message_id="m-1", async_processing=False)

    assert monotonic() - began < 10
    assert (taken.status_code, taken.json()["status"]) == (202, "accepted")
    ready = api.http.get("/health/ready")
    assert (ready.status_code, ready.json()["status"], ready.json()["database"]) == (200, "ready", "ok")
    assert "broker" in [part["part"] for part in ready.json()["degraded"]]
    assert "127.0.0.1" not in ready.text
    redis_urls.valkey.start()
    api.services.tasks.outbox.relay()
    repeated = api.say(message_id="m-1").json()
    assert (repeated["status"], repeated["task_id"]) == ("processing", taken.json()["task_id"])
    assert api.http.get("/health/ready").status_code == 200
    assert api.count(TaskRun) == api.queued() == 1


def test_while_the_database_is_away_every_route_says_so(make_api: MakeApi) -> None:
    api = make_api(database=Database("postgresql+psycopg://nobody:pw-4720@127.0.0.1:1/nowhere"))

    refused = [
        api.say(),
        api.http.get("/conversations/conv-1"),
        api.http.get("/conversations/tasks/t-1/status"),
        api.http.get("/conversations/tasks/queues/status"),
        api.http.get("/conversations/tasks/active"),
        api.http.post("/conversations/tasks/t-1/cancel"),
        api.http.get("/analytics/reports"),
    ]
    for answer in refused:
        assert problem(answer, 503)["type"] == "urn:laneway:problem:database-unavailable"
        assert int(answer.headers["retry-after"]) >= 1
        assert "pw-4720" not in answer.text and "nobody" not in answer.text
    assert api.http.get("/health/ready").json()["database"] == "Database unavailable"
    assert api.http.get("/health/live").status_code == 200
    assert api.queued() == 0


def test_a_database_failure_while_a_caller_waits_keeps_the_accepted_message(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_id: str) -> None:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(api.services.tasks, "status", away)
    answer = api.say(async_processing=False)

    assert (answer.status_code, answer.json()["status"]) == (202, "processing")


def test_an_unknown_conversation_is_not_found(api: Api) -> None:
    assert problem(api.http.get("/conversations/nobody"), 404)["detail"] == "No conversation 'nobody' is known here."


def test_a_conversation_is_visible_before_its_first_message_is_processed(api: Api) -> None:
    api.say("early")

    view = api.http.get("/conversations/early").json()
    assert (view["messages"], view["total_messages"], view["unanswered"]) == ([], 0, 1)


def test_a_history_is_read_page_by_page_each_turn_once(api: Api) -> None:
    with api.database.transaction() as session:
        repository.open_or_continue(session, "long", channel="api", customer={"name": "Ada"}, now=clock.now())
        for number in range(25):
            repository.add_message(
                session,
                conversation_id="long",
                message_id=f"long/{number}",
                role="customer",
                text=f"turn {number}",
                created_at=clock.now(),
            )
    read: list[str] = []
    before = ""
    while page := api.http.get(f"/conversations/long?limit=10{before}").json()["messages"]:
        read = [turn["message"] for turn in page] + read
        before = f"&before={page[0]['id']}"

    assert read == [f"turn {number}" for number in range(25)]
    assert api.http.get("/conversations/long").json()["total_messages"] == 25
    assert api.http.get("/conversations/long").json()["customer"] == {"name": "Ada"}


@ONE_DATABASE
@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "limit=",
        "limit=1e3",
        "before=0",
        "before=-1",
        "before=9223372036854775808",
        "before=" + "9" * 5000,
    ],
)
def test_an_invalid_page_is_refused(api: Api, query: str) -> None:
    problem(api.http.get(f"/conversations/conv-1?{query}"), 422)


def test_the_largest_page_number_gives_an_empty_page(api: Api) -> None:
    api.say()

    assert api.http.get("/conversations/conv-1?before=9223372036854775807").json()["messages"] == []


def test_an_interaction_opens_a_conversation_once(live: Site) -> None:
    body = {
        "conversation_id": "ad-1",
        "kind": "ad_click",
        "event_id": "click-1",
        "channel": "google",
        "customer": {"name": "Ada"},
        "message": "What does the warranty cover?",
    }
    first = live.http.post("/conversations/webhook-interaction", json=body)
    second = live.http.post("/conversations/webhook-interaction", json=body)

    assert first.status_code == 202
    assert first.json() == {
        "conversation_id": "ad-1",
        "response": "Interaction received and being processed.",
        "status": "processing",
        "task_id": first.json()["task_id"],
        "sources": None,
        "error": None,
    }
    assert second.json() == first.json()
    live.until(first.json()["task_id"], TaskState.COMPLETED)
    result = live.get(f"/conversations/tasks/{first.json()['task_id']}/status")["result"]
    assert result["conversation_id"] == "ad-1"
    assert result["ai_response"] == live.turns("ad-1")[-1].text
    assert result["sources"][0]["document_id"]
    history = live.get("/conversations/ad-1")
    assert [turn["role"] for turn in history["messages"]] == ["customer", "assistant"]
    assert (history["channel"], history["customer"]["name"]) == ("google", "Ada")
    problem(live.http.post("/conversations/webhook-interaction", json={**body, "message": "Other"}), 409)


def test_an_interaction_is_answered_at_once_when_it_is_asked_for(live: Site) -> None:
    body = {
        "conversation_id": "ad-2",
        "kind": "page_message",
        "event_id": "click-2",
        "message": "What does the warranty cover?",
        "async_processing": False,
    }
    answer = live.http.post("/conversations/webhook-interaction", json=body)

    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    assert answer.json()["response"] == live.turns("ad-2")[-1].text
    assert answer.json()["sources"]


def test_a_test_interaction_leaves_nothing_behind(live: Site) -> None:
    body = {"conversation_id": "ad-test", "kind": "lead_form", "event_id": "lead-test", "is_test": True}
    live.until(live.post("/conversations/webhook-interaction", body)["task_id"], TaskState.COMPLETED)

    problem(live.http.get("/conversations/ad-test"), 404)


def test_messages_of_one_conversation_are_answered_in_order(live: Site) -> None:
    for number in range(5):
        live.post("/conversations/message", {"conversation_id": "order-1", "message": f"Question {number} on returns?"})
    wait_until(lambda: live.get("/conversations/order-1")["unanswered"] == 0, seconds=30)

    turns = live.get("/conversations/order-1")["messages"]
    assert [turn["role"] for turn in turns] == ["customer", "assistant"] * 5
    assert [turn["message"][:10] for turn in turns[::2]] == [f"Question {number}" for number in range(5)]


def test_text_of_every_kind_is_kept_as_it_was(live: Site) -> None:
    text = "Grüße 你好 🚲\u200d \u202eflip ' OR 1=1;-- <script>alert(1)</script> {{7*7}} %s \\ \x07 end"
    body = {"conversation_id": "odd-1", "message": text, "async_processing": False}

    assert live.http.post("/conversations/message", json=body).status_code == 200
    assert live.get("/conversations/odd-1")["messages"][0]["message"] == text


def _end(api: Api, task: str, *, hours_ago: float) -> None:
    with api.database.transaction() as session:
        session.execute(
            update(TaskRun)
            .where(TaskRun.id == task)
            .values(state=TaskState.COMPLETED, finished_at=clock.now() - timedelta(hours=hours_ago))
        )


def test_nothing_of_a_refused_message_is_stored(api: Api) -> None:
    problem(api.say(text=""), 422)

    assert api.count(TaskRun, Conversation, Message) == 0
