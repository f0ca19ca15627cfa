"""Leads: requests and responses of the API, and payloads of the CRM tasks."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, StringConstraints, model_validator

from app.schemas.conversation import FreeText, NullFreePattern, WithoutNull
from laneway.schemas.payload import Identifier, Payload
from laneway.schemas.task import Response, TaskState

MAX_VERSION = 2**31 - 1
"""The largest value of the database's column."""
EXAMPLE: Final[dict[str, Any]] = {
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "phone": "+44 20 7946 0958",
    "company": "Analytical Engines",
    "status": "new",
    "message": "I should like to rent a bicycle.",
    "fields": {"campaign": "spring"},
}


def _require_number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("must be a number")  # noqa: TRY004  Pydantic reports only a ValueError as a problem
    return value


NO_CONTROLS = r"^[^\x00-\x1f\x7f]+$"
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_CONTROLS)]
ShortLine = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=NO_CONTROLS)]
EMAIL = r"^[^@\x00-\x20\x7f-\xa0]+@[^@\x00-\x20\x7f-\xa0]+$"
Email = Annotated[str, StringConstraints(max_length=254, pattern=EMAIL)]
FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


def _reject_large_integer(value: object) -> object:
    if isinstance(value, int):
        raise ValueError("a whole number beyond 2**53 must be sent as text: a number would be rounded")  # noqa: TRY004
    return value


FieldText = Annotated[str, StringConstraints(max_length=2000), WithoutNull, NullFreePattern]
Number = (
    Annotated[int, Field(strict=True, ge=-(2**53), le=2**53)]
    | Annotated[float, Field(strict=True, allow_inf_nan=False), BeforeValidator(_reject_large_integer)]
)
"""A number is never parsed from text: "007" stays text."""
Version = Annotated[int, Field(ge=1, le=MAX_VERSION), BeforeValidator(_require_number)]


class CrmState(StrEnum):
    """Whether the CRM has a lead's newest version."""

    UNSENT = "unsent"
    PENDING = "pending"
    SYNCED = "synced"
    FAILED = "failed"


class LeadContent(Payload):
    """The content of a lead: what is known about a person who asked to be contacted."""

    name: Line | None = None
    email: Email | None = None
    phone: ShortLine | None = None
    company: Line | None = None
    status: ShortLine | None = Field(None, description="The stage of the sale, in your own words")
    message: FreeText | None = None
    fields: dict[FieldName, FieldText | StrictBool | Number | None] = Field(
        default_factory=dict,
        max_length=50,
        description="Further fields of your choice",
        json_schema_extra={"additionalProperties": False},
    )

    @model_validator(mode="after")
    def _require_content(self) -> Self:
        if all(getattr(self, name) in (None, {}) for name in LeadContent.model_fields):
            raise ValueError("a lead needs at least one of name, email, phone, company, status, message and fields")
        return self


class LeadRequest(LeadContent):
    """A new lead."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"lead_id": "lead-42", **EXAMPLE}]})

    lead_id: Identifier | None = Field(
        None, description="The caller's id; the same lead with the same id is stored once"
    )


class LeadChange(LeadContent):
    """The whole content of a lead; fields that are left out are removed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**EXAMPLE, "status": "won", "version": 1}]})

    version: Version | None = Field(
        None, description="The version that the change is based on; 409 if the lead has another one"
    )


class LeadAccepted(Response):
    """The lead is stored; a task updates the CRM."""

    lead_id: str
    version: int
    task_id: str | None = Field(description="The task that sends this version to the CRM")
    status: TaskState = Field(description="The state of that task; accepted: it is queued when the broker is back")


class CrmView(Response):
    """The state of a lead in the CRM."""

    state: CrmState = Field(
        description="State of the newest version; unsent: the lead is older than the CRM connection"
    )
    id: str | None = Field(description="The id of the record in the CRM")
    version: int = Field(description="The newest version that the CRM has accepted; 0: none")
    synced_at: datetime | None
    error: str | None = Field(description="Why the last attempt failed; null after a success")


class LeadView(Response):
    """A lead, and its state in the CRM."""

    lead_id: str
    version: int
    source: str
    conversation_id: str | None
    name: str | None
    email: str | None
    phone: str | None
    company: str | None
    status: str | None
    message: str | None
    fields: dict[str, Any]
    details: dict[str, Any] = Field(description="Further fields from its source")
    created_at: datetime
    updated_at: datetime
    task_id: str | None = Field(description="The task that sends this version to the CRM")
    crm: CrmView


class LeadPage(Response):
    """A page of leads, newest first."""

    leads: list[LeadView]
    next: int | None = Field(description="`before` of the next page; null on the last one")


class CrmUpdate(Payload):
    """Payload of `crm_update`: bring the CRM to at least this version of the lead."""

    lead_id: Identifier
    uid: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,40}$")] | None = None
    """The lead's own id, which differs when `lead_id` is used again after a deletion. Default: the current lead."""
    version: Version | None = None
    """Default: the newest version."""


class CrmNotify(Payload):
    """Payload of `crm_notify`: e-mail the addresses in `CRM_NOTIFY_TO` that a lead is new or has changed."""

    lead_id: Identifier
    uid: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,40}$")]
    version: Version
