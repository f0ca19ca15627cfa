"""Destinations of outbound webhooks: registered receivers, each with a secret."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import ConfigDict, Field, StringConstraints, WithJsonSchema, field_validator

from laneway.schemas.choices import EventKindName
from laneway.schemas.model import Model
from laneway.schemas.number import Whole
from laneway.schemas.overlap import A_DAY, LONGEST_OVERLAP
from laneway.schemas.task import Response
from laneway.schemas.text import Text

DESTINATION_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
MAX_DESTINATION_URL: Final = 500

DestinationName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DESTINATION_NAME)]


class DestinationRequest(Model):
    """A new destination."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "shop", "url": "https://shop.example/hooks/"}]}
    )

    name: DestinationName
    url: str = Field(
        max_length=MAX_DESTINATION_URL,
        pattern=r"^https?://[^\x00]+$",
        description="Address without query. If it ends with `/`, the destination covers all addresses below",
    )


class RotationRequest(Model):
    """A new secret for a destination."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"overlap_seconds": 86_400}]})

    overlap_seconds: Whole = Field(
        A_DAY, ge=0, le=LONGEST_OVERLAP, description="Seconds for which the present secret signs as well"
    )


SentKind = Annotated[
    EventKindName,
    WithJsonSchema(
        {"type": "string", "enum": [kind.value for kind in EventKindName if kind is not EventKindName.OUTPUT]}
    ),
]
"""A kind of events that is sent as webhooks."""


class EventSubscription(Model):
    """Which events of tasks are sent to a destination. A field that is not given selects all."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"kinds": ["end"], "queue": "emails"}]})

    kinds: list[SentKind] = Field(
        min_length=1, max_length=len(EventKindName), description="Kinds of events, all but `output`"
    )
    queue: Text | None = Field(default=None, description="Only tasks of this queue")
    name: Text | None = Field(default=None, description="Only tasks of this name")
    tag: Text | None = Field(default=None, description="Only tasks with this tag")

    @field_validator("kinds")
    @classmethod
    def _refuse_output(cls, kinds: list[EventKindName]) -> list[EventKindName]:
        if EventKindName.OUTPUT in kinds:
            raise ValueError("the output of tasks is not sent as webhooks: follow the task's events instead")
        return kinds


class DestinationView(Response):
    """One destination, without its secret."""

    name: str
    url: str
    created_at: datetime
    rotated_at: datetime | None
    previous_until: datetime | None = Field(description="Until then the secret before the present one signs as well")
    events: EventSubscription | None = Field(default=None, description="Which events of tasks it gets; null: none")


class NewSecretResponse(Response):
    """A destination with its new secret, which is shown this once."""

    destination: DestinationView
    secret: str = Field(description="`whsec_…`: the receiver verifies signatures with it. It is not shown again")


class DestinationsResponse(Response):
    """A page of destinations, by name."""

    destinations: list[DestinationView]
    next: str | None = Field(description="`after` of the next page; null on the last page")


class ReencryptedResponse(Response):
    """How many destinations were encrypted again."""

    destinations: int
