"""Leads: what the API takes and answers, and what the tasks of the CRM are called with."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, StringConstraints

from app.schemas.conversation import Clean, SomeText, Storable
from laneway.platform.payload import Identifier, Payload
from laneway.platform.schemas.task import Response, TaskState

LAST_VERSION = 2**31 - 1
EXAMPLE: Final[dict[str, Any]] = {
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "phone": "+44 20 7946 0958",
    "company": "Analytical Engines",
    "status": "new",
    "message": "I should like to rent a bicycle.",
    "fields": {"campaign": "spring"},
}


def _number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("must be a number")  # noqa: TRY004  what Pydantic takes for a problem of the caller
    return value


NO_CONTROLS = r"^[^\x00-\x1f\x7f]+$"
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_CONTROLS)]
ShortLine = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=NO_CONTROLS)]
EMAIL = r"^[^@\x00-\x20\x7f-\xa0]+@[^@\x00-\x20\x7f-\xa0]+$"
Email = Annotated[str, StringConstraints(max_length=254, pattern=EMAIL)]
FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


def _no_whole_number(value: object) -> object:
    if isinstance(value, int):
        raise ValueError("a whole number beyond 2**53 must be written as a text: it would be rounded")  # noqa: TRY004
    return value


FieldText = Annotated[str, StringConstraints(max_length=2000), Storable, Clean]
Number = (
    Annotated[int, Field(strict=True, ge=-(2**53), le=2**53)]
    | Annotated[float, Field(strict=True, allow_inf_nan=False), BeforeValidator(_no_whole_number)]
)
"""Never made of a text: "007" stays one."""
Version = Annotated[int, Field(ge=1, le=LAST_VERSION), BeforeValidator(_number)]


class CrmState(StrEnum):
    """What the CRM knows of a lead's newest version."""

    UNSENT = "unsent"
    PENDING = "pending"
    SYNCED = "synced"
    FAILED = "failed"


class LeadContent(Payload):
    """What is known of a person who asked to be contacted."""

    name: Line | None = None
    email: Email | None = None
    phone: ShortLine | None = None
    company: Line | None = None
    status: ShortLine | None = Field(None, description="Where it is in the sale, in your own words")
    message: SomeText | None = None
    fields: dict[FieldName, FieldText | StrictBool | Number | None] = Field(
        default_factory=dict,
        max_length=50,
        description="Whatever else belongs to it",
        json_schema_extra={"additionalProperties": False},
    )


class LeadRequest(LeadContent):
    """A new lead."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"lead_id": "lead-42", **EXAMPLE}]})

    lead_id: Identifier | None = Field(None, description="The caller's id: the same lead again is stored once")


class LeadChange(LeadContent):
    """The whole content of a lead as it is from now on; what is left out is gone."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**EXAMPLE, "status": "won", "version": 1}]})

    version: Version | None = Field(None, description="The version that was changed: if it is another by now, 409")


class LeadAccepted(Response):
    """The lead is stored; a task tells the CRM."""

    lead_id: str
    version: int
    task_id: str | None = Field(description="The task that tells the CRM of this version")
    status: TaskState = Field(description="The state of that task; accepted: it is sent when the broker is back")


class CrmView(Response):
    """What the CRM was told of a lead."""

    state: CrmState = Field(description="Of the newest version; unsent: it is from before there was a CRM")
    id: str | None = Field(description="The CRM's own id")
    version: int = Field(description="The newest version that the CRM has taken; 0: none")
    synced_at: datetime | None
    error: str | None = Field(description="Why the last try failed, until one succeeds")


class LeadView(Response):
    """A lead, and what the CRM was told of it."""

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
    details: dict[str, Any] = Field(description="What else its source said")
    created_at: datetime
    updated_at: datetime
    task_id: str | None = Field(description="The task that tells the CRM of this version")
    crm: CrmView


class LeadPage(Response):
    """Some leads, newest first."""

    leads: list[LeadView]
    next: int | None = Field(description="`before` of the next page; none on the last")


class CrmUpdate(Payload):
    """Payload of `crm_update`: the CRM is to know at least this version of this lead."""

    lead_id: Identifier
    uid: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,40}$")] | None = None
    """Which lead of this id, if it was used again after a deletion; without it the one that there is."""
    version: Version | None = None
    """Without it: the newest."""


class CrmNotify(Payload):
    """Payload of `crm_notify`: who is configured is told by e-mail that a lead is new, or has changed."""

    lead_id: Identifier
    uid: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,40}$")]
    version: Version
