"""Sessions of people, as operators see them."""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict, Field

from laneway.schemas.model import Model
from laneway.schemas.task import Response


class SessionView(Response):
    """One session of a person."""

    person: str = Field(examples=["ada@example.com"])
    role: str = Field(examples=["operator"])
    began_at: datetime
    confirmed_at: datetime = Field(description="When the identity provider has last said who the person is")
    confirmed: bool = Field(description="False: the provider has to say it again before the session counts")


class SessionList(Response):
    """Sessions, the latest first."""

    sessions: list[SessionView]


class EndSessions(Model):
    """Whose sessions to end."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"person": "ada@example.com"}]})

    person: str = Field(min_length=1, max_length=255, pattern=r"^[^\x00]+$", examples=["ada@example.com"])


class EndedSessions(Response):
    """How many sessions were ended."""

    person: str
    ended: int
