"""Alerts, as tasks are given them."""

from __future__ import annotations

from pydantic import Field

from laneway.platform.payload import Payload


class AlertsOpened(Payload):
    """Payload of `send_alert_mail_task`: alerts that somebody is to be told of, by their ids."""

    alerts: list[int] = Field(max_length=500)
