"""Payloads of tasks about alerts."""

from __future__ import annotations

from pydantic import Field

from laneway.schemas.payload import Payload


class AlertsOpened(Payload):
    """Payload of `send_alert_mail_task`: the ids of the alerts to notify somebody about."""

    alerts: list[int] = Field(max_length=500)
