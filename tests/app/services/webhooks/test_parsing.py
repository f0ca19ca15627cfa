"""Payloads of the platforms become events; a broken part does not affect the others."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from app.core.settings import ROOT
from app.schemas.webhook import ParsedDelivery
from app.services.webhooks.parsing import parse_facebook, parse_generic, parse_google, without_secret
from app.services.webhooks.parsing.untrusted_json import MAX_PROBLEMS, conversation_id
from laneway.platform.errors import InvalidPayload

EXAMPLES = ROOT / "examples" / "webhooks"
PAGE, PERSON = "104", "730"


def example(name: str) -> dict[str, Any]:
    return json.loads((EXAMPLES / name).read_text())


def page(*messaging: Any, changes: list[Any] | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": PAGE, "time": 1767261605123}
    if messaging:
        entry["messaging"] = list(messaging)
    if changes is not None:
        entry["changes"] = changes
    return {"object": "page", "entry": [entry]}


def messaging(**parts: Any) -> dict[str, Any]:
    return {"sender": {"id": PERSON}, "recipient": {"id": PAGE}, "timestamp": 1767261604870, **parts}


def message(mid: str = "m_1", **parts: Any) -> dict[str, Any]:
    return messaging(message={"mid": mid, **parts})


def only(parsed: ParsedDelivery) -> Any:
    assert parsed.problems == []
    assert len(parsed.events) == 1
    return parsed.events[0]


# Facebook


def test_a_page_message_continues_the_conversation_of_its_page_and_sender() -> None:
    event = only(parse_facebook(example("facebook_page_message.json")))

    assert event.kind == "page_message"
    assert event.event_id == "m_demo-Qk7rVt0nXb2Lw9sYp4Hc6ZdJ1uFg8AeT3iMo5KxR"
    assert event.occurred_at == datetime(2026, 1, 1, 10, 0, 4, 870000, tzinfo=UTC)
    assert event.interaction.conversation_id == "facebook:104729183650021:7301958824416035"
    assert event.interaction.channel == "facebook"
    assert event.interaction.customer.id == "7301958824416035"
    assert event.interaction.message.startswith("Hello! How long")
    assert event.is_test is False


def test_two_messages_of_one_person_share_a_conversation_and_others_do_not() -> None:
    other = {**message("m_3", text="c"), "sender": {"id": "731"}}
    parsed = parse_facebook(page(message("m_1", text="a"), message("m_2", text="b"), other))

    ids = [event.interaction.conversation_id for event in parsed.events if event.interaction]
    assert ids == ["facebook:104:730", "facebook:104:730", "facebook:104:731"]


def test_ids_may_be_numbers() -> None:
    item = {**message(text="hi"), "sender": {"id": 730}}
    body = {"object": "page", "entry": [{"id": 104, "messaging": [item]}]}

    assert only(parse_facebook(body)).interaction.conversation_id == "facebook:104:730"


@pytest.mark.parametrize(
    "item",
    [
        message(text="ours", is_echo=True),
        messaging(delivery={"mids": ["m_1"], "watermark": 1}),
        messaging(read={"watermark": 1767261604870}),
    ],
    ids=["echo", "delivery", "read"],
)
def test_echoes_and_receipts_are_skipped_without_a_problem(item: dict[str, Any]) -> None:
    assert parse_facebook(page(item)) == ParsedDelivery()


def test_a_message_with_attachments_names_their_types() -> None:
    files = [
        {"type": "image", "payload": {"url": "https://cdn.example/a.jpg", "sticker_id": 1}},
        {"type": "image", "payload": None},
        {"type": "location", "payload": {"coordinates": {"lat": 1.5, "long": 2}}},
    ]
    event = only(parse_facebook(page(message(attachments=files))))

    assert event.interaction.message == "[attachment: image, location]"
    assert event.data["attachments"][0] == {"type": "image", "url": "https://cdn.example/a.jpg"}


def test_an_empty_message_has_no_text() -> None:
    assert only(parse_facebook(page(message(text="  ")))).interaction.message is None


def test_a_quick_reply_keeps_its_payload() -> None:
    event = only(parse_facebook(page(message(text="Red", quick_reply={"payload": "COLOUR_RED"}))))

    assert (event.interaction.message, event.data["quick_reply"]) == ("Red", "COLOUR_RED")


def test_a_postbacks_title_is_its_text_and_a_repeat_is_the_same_event() -> None:
    pressed = messaging(postback={"title": "Get started", "payload": "START"})
    first, again = only(parse_facebook(page(pressed))), only(parse_facebook(page(pressed)))
    later = only(parse_facebook(page({**pressed, "timestamp": 1767261604871})))

    assert first.kind == "postback"
    assert first.interaction.message == "Get started"
    assert first.data["payload"] == "START"
    assert first.event_id == again.event_id != later.event_id
    assert only(parse_facebook(page(messaging(postback={"mid": "m_7", "title": "x"})))).event_id == "m_7"


def test_a_referral_by_an_ad_is_an_ad_click_and_one_by_a_link_is_not() -> None:
    ad = {"source": "ADS", "type": "OPEN_THREAD", "ad_id": 6045246247433, "ads_context_data": {"ad_title": "E-bikes"}}
    link = {"ref": "leaflet", "source": "SHORTLINK", "type": "OPEN_THREAD"}
    click, visit = parse_facebook(page(messaging(referral=ad), messaging(referral=link))).events

    assert click.kind == "ad_click"
    assert click.data["referral"]["ad_id"] == "6045246247433"
    assert click.data["referral"]["ads_context_data"] == {"ad_title": "E-bikes"}
    assert click.interaction is not None
    assert visit.kind == "other"
    assert visit.data["referral"]["ref"] == "leaflet"


def test_a_person_who_is_not_logged_in_is_identified_by_the_user_ref() -> None:
    item = {**messaging(postback={"title": "Hi"}), "sender": {"user_ref": "anon-1"}, "timestamp": "1527459824"}
    event = only(parse_facebook(page(item)))

    assert event.interaction.conversation_id == "facebook:104:ref-anon-1"
    assert event.occurred_at == datetime(2018, 5, 27, 22, 23, 44, tzinfo=UTC)


def test_a_lead_form_is_identified_by_its_leadgen_id() -> None:
    event = only(parse_facebook(example("facebook_leadgen.json")))

    assert (event.kind, event.event_id) == ("lead_form", "590318274466102")
    assert event.interaction.conversation_id == "facebook:104729183650021:lead-590318274466102"
    assert event.data["form_id"] == "330915507482216"
    assert event.interaction.customer.id is None


def test_other_changes_are_recorded_and_open_no_conversation() -> None:
    value = {"item": "comment", "verb": "add", "comment_id": "1_2", "from": {"id": "9"}, "message": "nice"}
    event = only(parse_facebook(page(changes=[{"field": "feed", "value": value}])))

    assert (event.kind, event.interaction) == ("other", None)
    assert event.data == {
        "item": "comment",
        "verb": "add",
        "comment_id": "1_2",
        "message": "nice",
        "page_id": PAGE,
        "field": "feed",
    }


def test_the_dashboards_test_button_sends_a_message_as_a_change() -> None:
    change = {"field": "messages", "value": message(text="test message")}

    assert only(parse_facebook(page(changes=[change]))).interaction.message == "test message"


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "text",
        {},
        messaging(message={"text": "no id"}),
        messaging(message="hello"),
        message(text=7),
        message(text="x" * 8001),
        {**message(text="x"), "sender": None},
        {**message(text="x"), "sender": {"id": {"a": 1}}},
        {**message(text="x"), "sender": {}},
        {**message(text="x"), "timestamp": 10**30},
        {**message(text="x"), "timestamp": [1]},
    ],
)
def test_a_malformed_item_does_not_lose_its_neighbours(bad: Any) -> None:
    parsed = parse_facebook(page(message("m_1", text="before"), bad, message("m_2", text="after")))

    assert [event.event_id for event in parsed.events] == ["m_1", "m_2"]
    assert len(parsed.problems) == 1
    assert parsed.problems[0].startswith("entry 0, messaging 1: ")


def test_a_malformed_entry_does_not_lose_its_neighbours() -> None:
    good = page(message(text="x"))["entry"][0]
    entries = [7, {"messaging": []}, {"id": PAGE, "messaging": "x", "changes": [{"field": 1}]}, good]
    parsed = parse_facebook({"object": "page", "entry": entries})

    assert [event.event_id for event in parsed.events] == ["m_1"]
    assert len(parsed.problems) == 4


def test_problems_do_not_repeat_what_the_customer_wrote() -> None:
    parsed = parse_facebook(page(messaging(message={"mid": "m", "text": ["a secret of mine"]})))

    assert "secret" not in str(parsed.problems)
    assert "message.text" in parsed.problems[0]


def test_an_event_that_comes_twice_in_one_batch_is_one_event() -> None:
    assert len(parse_facebook(page(message(text="a"), message(text="a"))).events) == 1


def test_a_flood_of_events_and_of_problems_is_bounded() -> None:
    parsed = parse_facebook(page(*[message(f"m_{number}", text="x") for number in range(1001)]))
    broken = parse_facebook(page(*[None] * 50))

    assert len(parsed.events) == 1000
    assert "more than 1000 events" in parsed.problems[0]
    assert len(broken.problems) == MAX_PROBLEMS + 1
    assert broken.problems[-1] == "and 30 more problems"


@pytest.mark.parametrize("body", [[], None, {}, {"object": "user", "entry": []}, {"object": "page", "entry": {}}])
def test_a_body_that_is_not_a_pages_webhook_is_a_clear_error(body: Any) -> None:
    with pytest.raises(InvalidPayload) as refused:
        parse_facebook(body)

    assert str(refused.value).startswith("The payload of the facebook webhook is not valid: ")
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)  # noqa: S301


# Google


def test_a_google_lead_gives_its_customer_and_the_answers_to_the_forms_questions() -> None:
    event = only(parse_google(example("google_lead_form.json")))

    assert (event.kind, event.event_id) == ("lead_form", "demo-lead-CjwKCAiA5Kx7w2Bq")
    assert event.interaction.conversation_id == "google:demo-lead-CjwKCAiA5Kx7w2Bq"
    assert event.interaction.customer.model_dump() == {
        "id": None,
        "name": "Mira Aldenbrook",
        "email": "mira.aldenbrook@example.com",
        "phone": "+1-555-0100",
    }
    assert event.interaction.message == "What can we help you with?: Do you repair electric bikes of other brands?"
    assert event.is_test is True
    assert event.interaction.is_test is True
    assert event.data["campaign_id"] == "20100200300"


def test_the_google_key_is_not_stored() -> None:
    body = example("google_lead_form.json")

    assert body["google_key"] not in parse_google(body).model_dump_json()
    assert "google_key" not in without_secret(body)
    assert without_secret(body)["lead_id"] == body["lead_id"]


def test_a_name_in_two_columns_is_joined() -> None:
    columns = [
        {"column_id": "FIRST_NAME", "string_value": "Ada"},
        {"column_id": "LAST_NAME", "string_value": " Byron "},
        {"column_id": "WORK_EMAIL", "string_value": "x" * 300},
    ]
    event = only(parse_google({"lead_id": 7, "user_column_data": columns}))

    assert event.interaction.customer.name == "Ada Byron"
    assert event.interaction.customer.email is None
    assert event.interaction.message is None
    assert len(event.data["fields"]["WORK_EMAIL"]) == 300


def test_a_malformed_column_does_not_lose_the_lead() -> None:
    columns = [None, {"column_id": "EMAIL"}, {"string_value": "x"}, {"column_id": "CITY", "string_value": "Delft"}]
    parsed = parse_google({"lead_id": "L", "user_column_data": columns})

    assert parsed.events[0].data["fields"] == {"CITY": "Delft"}
    assert len(parsed.problems) == 3


@pytest.mark.parametrize("body", [{}, {"lead_id": ""}, {"lead_id": []}, {"lead_id": "x", "is_test": "maybe"}, "x"])
def test_a_lead_without_an_id_or_with_wrong_types_is_a_clear_error(body: Any) -> None:
    with pytest.raises(InvalidPayload, match="the google webhook"):
        parse_google(body)


# Generic


def test_a_generic_message_continues_its_sources_conversation() -> None:
    event = only(parse_generic("shop", example("generic.json")))

    assert (event.kind, event.event_id) == ("page_message", "evt-2026-000417")
    assert event.interaction.conversation_id == "shop:order-88213"
    assert event.interaction.channel == "webhook"
    assert event.interaction.customer.name == "Tomas Veldhuis"
    assert event.occurred_at == datetime(2026, 1, 1, 10, 15, 30, tzinfo=UTC)


def test_a_source_cannot_write_into_another_sources_conversations() -> None:
    event = only(parse_generic("shop", {"id": 1, "text": "hi", "conversation_id": "facebook:104:730"}))

    assert event.interaction.conversation_id == "shop:facebook:104:730"
    assert conversation_id("a:b", "c") != conversation_id("a", "b:c")


def test_without_a_conversation_the_customer_is_the_conversation() -> None:
    def of(**customer: str) -> str:
        return only(parse_generic("shop", {"id": "e1", "text": "hi", "customer": customer})).interaction.conversation_id

    assert of(id="c-7") == "shop:customer:c-7"
    assert of(email="Ada@Example.com") == of(email="ada@example.com ")
    assert "ada" not in of(email="ada@example.com")
    assert of() == "shop:event:e1"


def test_without_an_id_the_same_body_is_the_same_event() -> None:
    first = only(parse_generic("shop", {"type": "stock.low", "item": 7, "left": 2}))
    again = only(parse_generic("shop", {"left": 2, "item": 7, "type": "stock.low"}))
    other = only(parse_generic("shop", {"type": "stock.low", "item": 7, "left": 1}))

    assert first.event_id == again.event_id != other.event_id
    assert (first.kind, first.interaction) == ("other", None)
    assert first.data == {"type": "stock.low", "item": 7, "left": 2}


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ({"message": "hi"}, "page_message", "hi"),
        ({"message": {"text": "hi", "more": 1}}, "page_message", "hi"),
        ({"event": "lead.created"}, "lead_form", None),
        ({"type": "AD_CLICK"}, "ad_click", None),
        ({"type": "ticket.closed", "text": "done"}, "other", "done"),
    ],
)
def test_generic_types_and_texts_decide_the_kind(body: dict[str, Any], kind: str, text: str | None) -> None:
    event = only(parse_generic("shop", body))

    assert (event.kind, event.interaction.kind, event.interaction.message) == (kind, kind, text)


@pytest.mark.parametrize(
    "body",
    [{"id": []}, {"text": 5}, {"customer": "Ada"}, {"occurred_at": "yesterday"}, {"occurred_at": True}, {"test": "?"}],
)
def test_a_known_field_of_a_wrong_type_is_an_error_that_names_it(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload) as refused:
        parse_generic("shop", body)

    assert refused.value.retryable is False
    assert "yesterday" not in str(refused.value)
