"""Lead forms of Google become events."""

from __future__ import annotations

from typing import Any

import pytest

from app.services.webhooks.parsing import parse_google, without_secret
from laneway.platform.errors import InvalidPayload
from tests.fixtures.webhook_payloads import example, only


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
    (event,) = parse_google({"lead_id": "L", "user_column_data": columns}).events

    assert event.data["fields"] == {"CITY": "Delft"}
    assert len(event.problems) == 3


@pytest.mark.parametrize("body", [{}, {"lead_id": ""}, {"lead_id": []}, {"lead_id": None, "google_key": "k"}])
def test_a_lead_without_an_id_is_an_unreadable_event(body: Any) -> None:
    (event,) = parse_google(body).events

    assert "lead_id" in (event.unreadable or "")
    assert "google_key" not in event.body


@pytest.mark.parametrize("columns", [None, "", [], "none", 5])
def test_a_lead_without_readable_columns_is_a_lead(columns: Any) -> None:
    (event,) = parse_google({"lead_id": "L", "user_column_data": columns}).events

    assert event.interaction and event.interaction.message is None


@pytest.mark.parametrize(
    ("value", "is_test", "problems"),
    [(True, True, 0), ("true", True, 0), (1, True, 0), ("0", False, 0), (None, False, 0), ("", False, 0)]
    + [(odd, False, 1) for odd in ("maybe", 2, {"a": 1}, ["true"])],
)
def test_is_test_is_read_in_every_spelling(value: Any, is_test: bool, problems: int) -> None:
    (event,) = parse_google({"lead_id": "L", "is_test": value}).events

    assert (event.is_test, len(event.problems)) == (is_test, problems)


@pytest.mark.parametrize("body", ["x", []])
def test_a_google_body_is_one_object(body: Any) -> None:
    with pytest.raises(InvalidPayload, match="the google webhook"):
        parse_google(body)
