"""Alerts: their responses, and the payload of the task that tells them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from laneway.schemas.payload import Payload
from laneway.schemas.task import Response


class AlertNotice(Payload):
    """The payload of the task that tells one receiver about alerts. It names them; their texts are read when it runs.

    Each list has the ids of alerts.
    """

    receiver: str = Field(max_length=40, description="A name in ALERT_RECEIVERS; its address is in the settings alone")
    opened: list[int] = Field([], max_length=100)
    reminded: list[int] = Field([], max_length=100)
    ended: list[int] = Field([], max_length=100)
    at: datetime = Field(description="When the notice was submitted")


class AlertView(Response):
    """A problem that needs an operator, or needed one."""

    id: int
    kind: str = Field(examples=["no_worker"])
    subject: str = Field(description="What has the problem, such as a queue", examples=["emails"])
    severity: Literal["low", "severe"]
    message: str = Field(description="What is wrong, and what to do")
    opened_at: datetime
    closed_at: datetime | None = Field(description="Null while the problem exists")
    notified_at: datetime | None = Field(description="When the last notice that it is open was submitted")


class AlertsResponse(Response):
    """Alerts, newest first."""

    alerts: list[AlertView]


class ReceiverAnswer(Response):
    """What one receiver of notices answered."""

    receiver: str = Field(description="Its name in ALERT_RECEIVERS", examples=["ops"])
    sent: bool
    answer: str = Field(examples=["it took the notice", "it answered 404"])


class AlertTestResponse(Response):
    """What the receivers answered to a test notice."""

    receivers: list[ReceiverAnswer]
