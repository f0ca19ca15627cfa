"""Facebook's payloads become events; a broken part does not affect the others."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from app.schemas.webhook import ParsedDelivery
from app.services.webhooks.parsing import parse_facebook
from laneway.platform.errors import InvalidPayload
from tests.fixtures.webhook_payloads import PAGE, example, message, messaging, only, only_with_problem, page


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


@pytest.mark.parametrize("bad", [None, "text", 7, [], {"field": 1}])
def test_an_unreadable_item_is_kept_and_does_not_lose_its_neighbours(bad: Any) -> None:
    parsed = parse_facebook(page(message("m_1", text="before"), message("m_2", text="after"), changes=[bad]))

    assert [event.event_id for event in parsed.events[:2]] == ["m_1", "m_2"]
    assert parsed.events[2].unreadable
    assert parsed.events[2].interaction is None
    assert len(parsed.events) == 3


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (message(text=["7"]), "message.text"),
        (message(text={"body": "hi"}), "message.text"),
        (message(text="hi", attachments="none"), "message.attachments"),
        (message(text="hi", attachments=[None, {"type": "image"}]), "message.attachments.0"),
        (message(text="hi", attachments=[{"type": "image", "payload": "x"}]), "message.attachments.0.payload"),
        (message(text="hi", quick_reply="RED"), "message.quick_reply"),
        (message(text="hi", referral=[1]), "message.referral"),
        ({**message(text="hi"), "timestamp": 10**30}, "timestamp"),
        ({**message(text="hi"), "timestamp": {"at": 1}}, "timestamp"),
        ({**message(text="hi"), "recipient": "the page"}, "recipient"),
        (message(text="x" * 8001), "message.text"),
        (message({"id": 1}, text="hi"), "message.mid"),
    ],
)
def test_a_field_that_is_not_needed_never_costs_the_event(item: Any, field: str) -> None:
    event = only_with_problem(parse_facebook(page(item)), field)

    assert (event.kind, event.interaction.conversation_id) == ("page_message", "facebook:104:730")


@pytest.mark.parametrize("sender", [None, "", "Ada", {}, {"id": {"a": 1}}, {"id": None}, []])
def test_a_message_without_a_sender_is_kept_and_belongs_to_no_conversation(sender: Any) -> None:
    (event,) = parse_facebook(page({**message(text="hi"), "sender": sender})).events

    assert (event.name, event.interaction) == ("message", None)
    assert event.problems[-1] == "it has no sender with an id"
    assert event.body["message"]["text"] == "hi"


@pytest.mark.parametrize("text", [7, 7.0])
def test_a_number_is_read_as_text(text: Any) -> None:
    assert only(parse_facebook(page(message(text=text)))).interaction.message == "7"


@pytest.mark.parametrize("empty", [None, "", " ", []])
def test_an_empty_value_is_no_problem(empty: Any) -> None:
    item = message(text="hi", attachments=empty, quick_reply=empty, referral=empty)
    item |= {"timestamp": empty, "recipient": empty, "postback": empty}

    assert only(parse_facebook(page(item))).interaction.message == "hi"


@pytest.mark.parametrize(
    "item",
    [
        {"recipient": {"id": PAGE}, "message_edit": {"mid": "m_1", "text": "better", "num_edit": 1}},
        messaging(reaction={"mid": "m_1", "emoji": "♥"}),
        messaging(optin={"ref": "x"}),
        messaging(something_new=[1]),
    ],
)
def test_an_item_that_is_for_no_conversation_is_an_event_of_its_own_name(item: dict[str, Any]) -> None:
    event = only(parse_facebook(page(item)))

    assert event.name in item
    assert (event.kind, event.interaction) == ("other", None)


def test_an_echo_is_one_in_any_spelling_of_true() -> None:
    assert parse_facebook(page(message(text="ours", is_echo="true"))) == ParsedDelivery()


def test_a_message_without_an_id_is_one_event_however_often_it_comes() -> None:
    first, again = (
        only(parse_facebook(page(messaging(message={"text": "hi"})))),
        parse_facebook(page(messaging(message={"text": "hi"}), messaging(message={"text": "hi"}))),
    )

    assert only(again).event_id == first.event_id


def test_a_malformed_entry_does_not_lose_its_neighbours() -> None:
    good = page(message(text="x"))["entry"][0]
    entries: list[Any] = [7, {"messaging": []}, {"id": PAGE, "messaging": "x", "changes": [{"field": 1}]}, good]
    events = parse_facebook({"object": "page", "entry": entries}).events

    assert [event.event_id for event in events if not event.unreadable] == ["m_1"]
    assert len(events) == 4


def test_the_recipient_names_the_page_of_an_entry_without_an_id() -> None:
    body = {"object": "page", "entry": {"messaging": message(text="hi")}}

    assert only(parse_facebook(body)).interaction.conversation_id == "facebook:104:730"


def test_an_array_of_pages_is_read() -> None:
    bodies = [page(message("m_1", text="a")), page(message("m_2", text="b")), None]

    assert [bool(event.unreadable) for event in parse_facebook(bodies).events] == [False, False, True]


def test_problems_do_not_repeat_what_the_customer_wrote() -> None:
    parsed = parse_facebook(page(messaging(message={"mid": "m", "text": ["a secret of mine"]})))

    assert "secret" not in str(parsed.events[0].problems)
    assert "message.text" in parsed.events[0].problems[0]


def test_an_event_that_comes_twice_in_one_batch_is_one_event() -> None:
    assert len(parse_facebook(page(message(text="a"), message(text="a"))).events) == 1


def test_a_flood_of_events_is_bounded_and_the_rest_is_told() -> None:
    parsed = parse_facebook(page(*[message(f"m_{number}", text="x") for number in range(1003)]))

    assert len(parsed.events) == 1001
    assert parsed.events[-1].unreadable == "the delivery has more than 1000 events; 3 of them were not read"


@pytest.mark.parametrize("body", [{}, {"object": "user", "entry": []}, {"object": ["page"]}])
def test_a_body_that_is_not_a_pages_webhook_is_an_unreadable_event(body: Any) -> None:
    (event,) = parse_facebook(body).events

    assert event.unreadable == "object is not 'page', the only supported one"


@pytest.mark.parametrize("body", [None, "x", 5])
def test_a_body_that_is_neither_an_object_nor_an_array_is_a_clear_error(body: Any) -> None:
    with pytest.raises(InvalidPayload) as refused:
        parse_facebook(body)

    assert str(refused.value).startswith("The payload of the facebook webhook is not valid: ")
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)  # noqa: S301
