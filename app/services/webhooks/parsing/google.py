"""Google lead forms: one lead a request, vouched for by a key inside the body.

Shape: "Lead form webhook" in the Google Ads documentation. `lead_id` is unique across all forms and is the event id.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError

from app.schemas.conversation import Customer, Interaction
from app.schemas.webhook import GoogleLead, LeadColumn, ParsedDelivery, ParsedEvent
from app.services.webhooks.parsing.hostile import bounded, conversation_id, invalid, present, sentences, storable

SOURCE = "google"
SECRET_FIELD = "google_key"  # noqa: S105 - the field's name
MAX_TEXT = 8000

CONTACT: Final = frozenset(
    {
        "FULL_NAME",
        "FIRST_NAME",
        "LAST_NAME",
        "EMAIL",
        "WORK_EMAIL",
        "PHONE_NUMBER",
        "WORK_PHONE",
        "STREET_ADDRESS",
        "CITY",
        "REGION",
        "COUNTRY",
        "POSTAL_CODE",
        "COMPANY_NAME",
        "JOB_TITLE",
    }
)
"""Columns about who and where somebody is; every other column is a question of the form."""


def without_secret(body: dict[str, Any]) -> dict[str, Any]:
    """The body as it may be stored: without the key."""
    return {name: value for name, value in body.items() if name != SECRET_FIELD}


def parse_google(body: object) -> ParsedDelivery:
    """The lead. Raises InvalidPayload when there is none; a malformed column is a problem and not a lost lead."""
    try:
        lead = GoogleLead.model_validate(storable(body, source=SOURCE))
    except ValidationError as error:
        raise invalid(SOURCE, sentences(error)) from None
    columns, problems = _columns(lead.user_column_data)
    values = {column.column_id or column.column_name or "": column.string_value for column in columns}
    data = {
        **present(**lead.model_dump(exclude={"user_column_data", "is_test", "lead_submit_time"})),
        "fields": values,
    }
    interaction = Interaction(
        conversation_id=conversation_id(SOURCE, lead.lead_id),
        kind="lead_form",
        channel="google",
        event_id=lead.lead_id,
        text=_questions(columns),
        customer=_customer(values),
        is_test=lead.is_test,
        details=data,
    )
    event = ParsedEvent(
        event_id=lead.lead_id,
        kind="lead_form",
        occurred_at=lead.lead_submit_time,
        is_test=lead.is_test,
        data=data,
        interaction=interaction,
    )
    return ParsedDelivery(events=[event], problems=bounded(problems))


def _columns(found: list[Any]) -> tuple[list[LeadColumn], list[str]]:
    columns: list[LeadColumn] = []
    problems: list[str] = []
    for number, item in enumerate(found):
        try:
            column = LeadColumn.model_validate(item)
        except ValidationError as error:
            problems.append(f"user_column_data {number}: {sentences(error)}")
            continue
        if column.column_id or column.column_name:
            columns.append(column)
        else:
            problems.append(f"user_column_data {number}: it has neither column_id nor column_name")
    return columns, problems


def _customer(values: dict[str, str]) -> Customer:
    parts = [values.get("FIRST_NAME", "").strip(), values.get("LAST_NAME", "").strip()]
    return Customer(
        id=None,
        name=_fitting(values.get("FULL_NAME") or " ".join(part for part in parts if part), 200),
        email=_fitting(values.get("EMAIL") or values.get("WORK_EMAIL"), 254),
        phone=_fitting(values.get("PHONE_NUMBER") or values.get("WORK_PHONE"), 40),
    )


def _fitting(value: str | None, limit: int) -> str | None:
    """The value, unless it is too long to be what it says; it stays among the lead's fields."""
    stripped = (value or "").strip()
    return stripped if 0 < len(stripped) <= limit else None


def _questions(columns: list[LeadColumn]) -> str | None:
    """What the customer answered in their own words, so that a reply can go into it."""
    lines = [
        f"{column.column_name or column.column_id}: {column.string_value.strip()}"
        for column in columns
        if column.column_id not in CONTACT and column.string_value.strip()
    ]
    return "\n".join(lines)[:MAX_TEXT] or None
