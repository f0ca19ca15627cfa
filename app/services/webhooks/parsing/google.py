"""Parses Google lead forms: one lead per request, authenticated by a key in the body.

Shape: "Lead form webhook" in the Google Ads documentation. `lead_id` is unique across all forms and is the event id.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError

from app.schemas.conversation import Customer, Interaction
from app.schemas.tolerant import sentences
from app.schemas.webhook import GoogleLead, LeadColumn, ParsedDelivery, ParsedEvent
from app.services.webhooks.parsing.collecting import collected, unreadable
from app.services.webhooks.parsing.untrusted_json import conversation_id, invalid, present, storable

SOURCE = "google"
SECRET_FIELD = "google_key"  # noqa: S105 - the field's name
MAX_TEXT = 8000
NAME: Final = "lead"
"""The name of its events, for the mapping."""

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
"""Columns with a person's identity and address; every other column is a question of the form."""


def without_secret(body: dict[str, Any]) -> dict[str, Any]:
    """The body without the key, so that it may be stored."""
    return {name: value for name, value in body.items() if name != SECRET_FIELD}


def parse_google(body: object) -> ParsedDelivery:
    """The lead of the request. Without a lead id it is unreadable. Raises InvalidPayload if it is not an object."""
    cleaned = storable(body, source=SOURCE)
    if isinstance(cleaned, list):
        raise invalid(SOURCE, "the body is not a JSON object")
    try:
        lead, problems = GoogleLead.read(cleaned)
    except ValidationError as error:
        return collected([unreadable(without_secret(cleaned), reason=sentences(error), name=NAME)])
    columns = [column for column in lead.user_column_data if column.column_id or column.column_name]
    if unnamed := len(lead.user_column_data) - len(columns):
        problems = [*problems, f"user_column_data: {unnamed} columns have neither column_id nor column_name"]
    values = {column.column_id or column.column_name or "": column.string_value for column in columns}
    data = {
        **present(**lead.model_dump(exclude={"user_column_data", "is_test", "lead_submit_time"})),
        "fields": values,
    }
    event = ParsedEvent(
        event_id=lead.lead_id,
        name=NAME,
        kind="lead_form",
        occurred_at=lead.lead_submit_time,
        is_test=lead.is_test,
        data=data,
        body=without_secret(cleaned),
        interaction=Interaction(
            conversation_id=conversation_id(SOURCE, lead.lead_id),
            kind="lead_form",
            channel="google",
            event_id=lead.lead_id,
            message=_questions(columns),
            customer=_customer(values),
            is_test=lead.is_test,
            details=data,
        ),
        problems=problems,
    )
    return collected([event])


def _customer(values: dict[str, str]) -> Customer:
    parts = [values.get("FIRST_NAME", "").strip(), values.get("LAST_NAME", "").strip()]
    return Customer(
        id=None,
        name=_within(200, values.get("FULL_NAME") or " ".join(part for part in parts if part)),
        email=_within(254, values.get("EMAIL") or values.get("WORK_EMAIL")),
        phone=_within(40, values.get("PHONE_NUMBER") or values.get("WORK_PHONE")),
    )


def _within(limit: int, value: str | None) -> str | None:
    """The value unless it is empty or longer than the limit; the lead's fields keep it in any case."""
    stripped = (value or "").strip()
    return stripped if 0 < len(stripped) <= limit else None


def _questions(columns: list[LeadColumn]) -> str | None:
    """The customer's answers to the form's questions, as text for the reply."""
    lines = [
        f"{column.column_name or column.column_id}: {column.string_value.strip()}"
        for column in columns
        if column.column_id not in CONTACT and column.string_value.strip()
    ]
    return "\n".join(lines)[:MAX_TEXT] or None
