"""Inbound webhooks over HTTP, genuine and forged."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase

from app.db.models import Conversation, Lead, WebhookDelivery, WebhookEvent
from laneway.platform.db.models import TaskRun
from laneway.schemas.task import TaskState
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import (
    APP_SECRET,
    BANK_SECRET,
    GOOGLE_KEY,
    SHOP_SECRET,
    VERIFY_TOKEN,
    Api,
    facebook,
    google_lead,
    page_events,
    page_message,
    problem,
    signed,
    unfinished,
)
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.site import Site
from tests.fixtures.valkey import RedisUrls
from tests.fixtures.waiting import wait_until

STORED: tuple[type[DeclarativeBase], ...] = (WebhookDelivery, WebhookEvent, TaskRun, Conversation, Lead)
BODY = page_events(page_message("m_1"))
CHALLENGE = {"hub.mode": "subscribe", "hub.verify_token": VERIFY_TOKEN, "hub.challenge": "1158201444"}


def test_facebooks_challenge_is_echoed_as_plain_text(api: Api) -> None:
    answer = api.http.get("/webhooks/facebook", params=CHALLENGE | {"hub.challenge": "<b>1158201444"})

    assert (answer.status_code, answer.text) == (200, "<b>1158201444")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"


@ONE_DATABASE
@pytest.mark.parametrize(
    "change",
    [
        *({"hub.verify_token": token} for token in ("wrong", "", "tökén", None, VERIFY_TOKEN + "x", "\x00")),
        {"hub.mode": "unsubscribe"},
        {"hub.mode": None},
    ],
)
def test_a_subscription_with_another_token_is_refused(api: Api, change: dict[str, str | None]) -> None:
    given = {name: value for name, value in (CHALLENGE | change).items() if value is not None}

    problem(api.http.get("/webhooks/facebook", params=given), 401)


def test_a_subscription_without_a_challenge_is_invalid(api: Api) -> None:
    given = {name: value for name, value in CHALLENGE.items() if name != "hub.challenge"}

    problem(api.http.get("/webhooks/facebook", params=given), 422)


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        page_events(page_message("m_ü", text="Fährt das 🚲?"), ensure_ascii=False),
        page_events(page_message("m_ü", text="Fährt das 🚲?")),
        b' \r\n\t{"object" :"page",  "entry": [ ] }\n\n',
        page_events(page_message("m_1"), indent=8),
    ],
    ids=["plain", "utf-8", "escaped", "whitespace", "indented"],
)
def test_the_signature_is_of_the_raw_bytes(api: Api, body: bytes) -> None:
    answer = api.http.post("/webhooks/facebook", content=body, headers=facebook(body))

    assert answer.status_code == 200, answer.text
    receipt = answer.json()
    assert (receipt["status"], receipt["duplicate"]) == ("queued", False)
    assert api.services.tasks.status(receipt["task_id"]).name == "process_facebook_webhook_task"
    assert api.count(WebhookDelivery) == api.queued() == 1


def _hex(body: bytes, *, secret: str = APP_SECRET, kind: str = "sha256") -> str:
    return hmac.new(secret.encode(), body, kind).hexdigest()


FORGED: dict[str, str | None] = {
    "missing": None,
    "empty": "",
    "of another secret": "sha256=" + _hex(BODY, secret="guess"),
    "of another body": "sha256=" + _hex(BODY + b" "),
    "of an empty secret": "sha256=" + _hex(BODY, secret=""),
    "unkeyed": "sha256=" + hashlib.sha256(BODY).hexdigest(),
    "without its prefix": _hex(BODY),
    "with a prefix in capitals": "SHA256=" + _hex(BODY),
    "sha1": "sha1=" + _hex(BODY, kind="sha1"),
    "sha1 under the other name": "sha256=" + _hex(BODY, kind="sha1"),
    "in base64": "sha256=" + base64.b64encode(hmac.new(APP_SECRET.encode(), BODY, "sha256").digest()).decode(),
    "short": "sha256=" + _hex(BODY)[:-1],
    "long": "sha256=" + _hex(BODY) + "0",
    "two": "sha256=" + _hex(BODY) + ",sha256=" + "0" * 64,
    "only the prefix": "sha256=",
    "beyond ASCII": "sha256=ÿþ",
    "as long as a header may be": "sha256=" + "0" * 993,
}


@ONE_DATABASE
@pytest.mark.parametrize("signature", FORGED.values(), ids=FORGED.keys())
def test_a_forged_delivery_is_refused_and_leaves_nothing(api: Api, signature: str | None) -> None:
    headers = [
        (b"X-Hub-Signature", ("sha1=" + _hex(BODY, kind="sha1")).encode())
    ]  # Facebook sends this header as well.
    if signature is not None:
        headers.append((b"X-Hub-Signature-256", signature.encode("latin-1")))
    answer = api.http.post("/webhooks/facebook", content=BODY, headers=headers)

    assert problem(answer, 401)["type"] == "urn:laneway:problem:bad-signature"
    assert _hex(BODY) not in answer.text, "the right signature must not be told"
    assert api.count(*STORED) == api.queued() == 0


def test_a_signature_that_is_longer_than_any_is_refused(api: Api) -> None:
    problem(api.http.post("/webhooks/facebook", content=BODY, headers={"X-Hub-Signature-256": "0" * 5000}), 422)
    assert api.count(*STORED) == api.queued() == 0


def test_a_forged_delivery_is_refused_before_it_is_parsed(api: Api) -> None:
    problem(api.http.post("/webhooks/facebook", content=b"not json", headers={"X-Hub-Signature-256": "sha256=0"}), 401)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"5",
        b"\xff",
        b'{"object": "page"',
        b"[" * 9_000,
        b'{"a": NaN}',
        b'{"object": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_signed_body_that_is_neither_an_object_nor_an_array_is_invalid(api: Api, body: bytes) -> None:
    problem(api.http.post("/webhooks/facebook", content=body, headers=facebook(body)), 422)
    problem(api.http.post("/webhooks/google", content=body), 422)
    problem(api.http.post("/webhooks/shop", content=body, headers=signed(body)), 422)
    assert api.count(*STORED) == 0


def test_a_batch_of_entries_becomes_one_conversation_for_each_sender(live: Site) -> None:
    body = page_events(
        *(page_message(f"batch_{number}", sender=f"sender-{number}") for number in range(3)),
        page_message("batch_0", sender="sender-0"),
    )
    tasks = _process(live, "facebook", body, facebook(body))

    assert len(tasks) == 3
    for number, task in enumerate(tasks):
        turns = live.turns(live.row(task).payload["conversation_id"])
        assert [turn.role for turn in turns] == ["customer", "assistant"]
        assert live.row(task).payload["event_id"].endswith(f"batch_{number}")


def test_a_message_sent_again_in_another_delivery_is_one_message(live: Site) -> None:
    first, second = (page_events(page_message("again_1", sender="again")) + end for end in (b"", b" "))
    (task,) = _process(live, "facebook", first, facebook(first))

    assert _process(live, "facebook", second, facebook(second)) == []
    assert [turn.role for turn in live.turns(live.row(task).payload["conversation_id"])] == ["customer", "assistant"]


def test_a_delivery_sent_again_is_one_delivery(api: Api) -> None:
    first = api.http.post("/webhooks/facebook", content=BODY, headers=facebook(BODY))
    second = api.http.post("/webhooks/facebook", content=BODY, headers=facebook(BODY))

    assert (first.status_code, second.status_code) == (200, 200)
    assert (first.json()["duplicate"], second.json()["duplicate"]) == (False, True)
    assert first.json()["task_id"] == second.json()["task_id"]
    assert api.count(WebhookDelivery) == api.count(TaskRun) == api.queued() == 1


def test_a_delivery_sent_many_times_at_once_is_one_delivery(api: Api) -> None:
    def send(_: int) -> Any:
        return api.http.post("/webhooks/facebook", content=BODY, headers=facebook(BODY))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.json()["duplicate"] for answer in answers].count(False) == 1
    assert api.count(WebhookDelivery) == api.count(TaskRun) == api.queued() == 1


@pytest.mark.parametrize(
    ("path", "setting"),
    [("facebook", "FACEBOOK_APP_SECRET"), ("google", "GOOGLE_LEAD_KEY"), ("shop", "WEBHOOK_SECRETS")],
)
def test_a_source_without_a_secret_is_refused_as_one_that_has_another(
    make_api: MakeApi, path: str, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known = make_api()
    wrong = problem(known.http.post(f"/webhooks/{path}", content=BODY, headers=facebook(BODY, secret="x")), 401)
    api = make_api(without=(setting,))
    answer = api.http.post(f"/webhooks/{path}", content=BODY, headers=facebook(BODY, secret=""))

    assert {**problem(answer, 401), "request_id": ""} == {**wrong, "request_id": ""}
    assert setting not in answer.text
    assert api.count(*STORED) == 0


def test_a_subscription_is_refused_while_no_verify_token_is_set(make_api: MakeApi) -> None:
    api = make_api(without=("FACEBOOK_VERIFY_TOKEN",))

    problem(api.http.get("/webhooks/facebook", params=CHALLENGE | {"hub.verify_token": ""}), 401)


def test_nobody_learns_which_sources_have_a_secret(api: Api) -> None:
    def answer(source: str, headers: dict[str, str]) -> str:
        found = problem(api.http.post(f"/webhooks/{source}", content=b"{}", headers=headers), 401)
        return str({**found, "request_id": "", "instance": ""}).replace(source, "")

    for headers in ({}, signed(b"{}"), {"X-Bank-Sign": "sha256=00"}, {"X-Signature-256": "x"}):
        assert answer("nobody", headers) == answer("bank", headers)
        assert answer("nobody", headers) == answer("shop", signed(b"{}", secret="another"))


@ONE_DATABASE
@pytest.mark.parametrize("source", ["a%00b", "a%2Fb", "ü", "a b", "-a", "x" * 65, "a%0A"])
def test_an_invalid_source_name_is_refused(api: Api, source: str) -> None:
    answer = api.http.post(f"/webhooks/{source}", content=b"{}")

    problem(answer, 404 if "%2F" in source else 422)


def test_a_google_lead_is_a_conversation_and_a_lead_once(live: Site) -> None:
    first = google_lead("lead-1", a_new_field={"of": ["theirs"]})
    second = google_lead("lead-1", gcl_id="another body")
    (task,) = _process(live, "google", json.dumps(first).encode())

    assert _process(live, "google", json.dumps(second).encode()) == []
    result = live.until(task).result
    assert result and result["lead_created"] is True
    with live.services.database.reading() as session:
        (lead,) = session.scalars(select(Lead).where(Lead.source_id.endswith("lead-1"))).all()
    assert (lead.fields["name"], lead.fields["email"]) == ("Ada Lovelace", "ada@example.com")
    assert live.get(f"/conversations/{lead.conversation_id}")["channel"] == "google"


def test_a_google_test_lead_creates_nothing(live: Site) -> None:
    assert _process(live, "google", json.dumps(google_lead("lead-test", is_test=True)).encode()) == []
    with live.services.database.reading() as session:
        assert session.scalars(select(Lead).where(Lead.source_id.endswith("lead-test"))).all() == []
        assert session.scalars(select(Conversation).where(Conversation.id.contains("lead-test"))).all() == []


@ONE_DATABASE
@pytest.mark.parametrize(
    "key", ["wrong", "", None, 5, True, ["x"], {"a": 1}, "schlüssel", GOOGLE_KEY + "\x00", [GOOGLE_KEY]]
)
def test_a_lead_with_another_key_is_refused_and_leaves_nothing(api: Api, key: object) -> None:
    problem(api.http.post("/webhooks/google", json=google_lead("lead-1") | {"google_key": key}), 401)
    assert api.count(*STORED) == api.queued() == 0


def test_a_lead_without_a_key_is_refused(api: Api) -> None:
    lead = google_lead("lead-1")
    del lead["google_key"]

    problem(api.http.post("/webhooks/google", json=lead), 401)


def test_the_key_of_a_lead_is_not_stored(api: Api) -> None:
    api.http.post("/webhooks/google", json=google_lead("lead-1"))

    with api.database.reading() as session:
        (delivery,) = session.scalars(select(WebhookDelivery)).all()
    assert GOOGLE_KEY not in json.dumps(delivery.body)


def test_a_generic_source_signs_with_its_own_secret_in_its_own_header(api: Api) -> None:
    body = b'{"id": "evt-1", "text": "Is my order on its way?"}'

    def send(source: str, secret: str, header: str) -> int:
        return api.http.post(
            f"/webhooks/{source}", content=body, headers=signed(body, secret=secret, header=header)
        ).status_code

    assert send("shop", BANK_SECRET, "X-Signature-256") == 401
    assert send("bank", BANK_SECRET, "X-Signature-256") == 401
    assert send("bank", SHOP_SECRET, "X-Bank-Sign") == 401
    assert send("Shop", SHOP_SECRET, "X-Signature-256") == 401
    assert api.count(*STORED) == 0
    assert send("bank", BANK_SECRET, "x-bank-SIGN") == 200
    assert send("shop", SHOP_SECRET, "X-Signature-256") == 200
    assert api.count(WebhookDelivery) == 2, "the same body from two sources is two deliveries"


def test_an_event_of_a_generic_source_is_answered_once(live: Site) -> None:
    bodies = [
        json.dumps({"id": "evt-9", "type": "message", "text": "How do I return a bicycle?", "n": number}).encode()
        for number in range(2)
    ]
    (task,) = _process(live, "shop", bodies[0], signed(bodies[0]))

    assert _process(live, "shop", bodies[1], signed(bodies[1])) == []
    assert [turn.role for turn in live.turns(live.row(task).payload["conversation_id"])] == ["customer", "assistant"]


def test_characters_that_cannot_be_stored_are_replaced(live: Site) -> None:
    body = b'{"id": "evt-odd", "text": "Is \\u0000 this \\ud800 returned?"}'
    (task,) = _process(live, "shop", body, signed(body))

    assert live.turns(live.row(task).payload["conversation_id"])[0].text == "Is \ufffd this \ufffd returned?"


def test_a_delivery_accepted_while_the_broker_is_away_is_queued_once_when_it_is_back(
    api: Api, redis_urls: RedisUrls
) -> None:
    redis_urls.valkey.stop()
    taken = [api.http.post("/webhooks/facebook", content=BODY, headers=facebook(BODY)) for _ in range(2)]
    assert [(answer.status_code, answer.json()["duplicate"]) for answer in taken] == [(200, False), (200, True)]
    redis_urls.valkey.start()

    assert [api.services.tasks.outbox.relay() for _ in range(2)] == [1, 0]
    repeated = api.http.post("/webhooks/facebook", content=BODY, headers=facebook(BODY))

    assert (repeated.status_code, repeated.json()["duplicate"]) == (200, True)
    assert api.count(WebhookDelivery) == api.count(TaskRun) == api.queued() == 1


def test_a_full_queue_asks_the_sender_to_retry_and_stores_nothing(make_api: MakeApi) -> None:
    api = make_api(MAX_QUEUE_SIZE="1")
    other = page_events(page_message("m_2"))
    assert api.http.post("/webhooks/facebook", content=BODY, headers=facebook(BODY)).status_code == 200

    refused = api.http.post("/webhooks/facebook", content=other, headers=facebook(other))
    problem(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert (api.count(WebhookDelivery), api.count(TaskRun), api.queued()) == (1, 1, 1)


def test_two_hundred_webhooks_are_accepted_and_their_times_are_shown(
    live: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[float] = []
    for number in range(200):
        body = page_events({"id": "1001", "messaging": [{"sender": {"id": "2002"}, "read": {"watermark": number}}]})
        headers = facebook(body)
        began = perf_counter()
        answer = live.http.post("/webhooks/facebook", content=body, headers=headers)
        taken.append((perf_counter() - began) * 1000)
        assert (answer.status_code, answer.json()["duplicate"]) == (200, False)
    with capsys.disabled():
        kind = "SQLite" if live.services.database.is_sqlite else "PostgreSQL"
        print(f"\n200 webhooks on {kind}, one by one: median {median(taken):.1f} ms, slowest {max(taken):.1f} ms")
    wait_until(lambda: unfinished(live) == 0, seconds=120)


def _process(live: Site, source: str, body: bytes, headers: dict[str, str] | None = None) -> list[str]:
    """Send a delivery, wait for all its tasks, and return the ids of its events' tasks."""
    answer = live.http.post(f"/webhooks/{source}", content=body, headers=headers or {})
    assert answer.status_code == 200, answer.text
    row = live.until(answer.json()["task_id"])
    assert row.state == TaskState.COMPLETED, row.error
    tasks: list[str] = (row.result or {})["tasks"]
    for task in tasks:
        assert live.until(task).state == TaskState.COMPLETED, live.row(task).error
    return tasks
