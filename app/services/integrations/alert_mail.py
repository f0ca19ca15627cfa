"""E-mail about alerts, to the addresses in `ALERT_MAIL_TO`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID, uuid5

from app.core.settings import MailSettings
from app.services.integrations.mail import Email, Mail, RunStep, one_line, send_to_each
from laneway.platform.db.models import Alert
from laneway.platform.db.queries import alerts as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import NotConfigured
from laneway.schemas.alert import AlertsOpened

EMAIL_IDS: Final = UUID("b7c1d0a2-6f0e-4b8f-9d53-1f2a7c0e6b90")
"""The namespace of the e-mails' ids."""


class AlertMail:
    """Sends one e-mail about new alerts to each recipient."""

    def __init__(self, database: Database, mail: Mail, settings: MailSettings) -> None:
        self._database, self._mail, self._settings = database, mail, settings

    def send(self, event: AlertsOpened, *, task_id: str, step: RunStep) -> dict[str, Any]:
        """Send an e-mail to every recipient, each in its own step.

        Raises NotConfigured, and the errors of `send_to_each`.
        """
        if not self._settings.alerts_to:
            raise NotConfigured("E-mail about alerts", "ALERT_MAIL_TO")
        with self._database.reading() as session:
            alerts = repository.by_id(session, event.alerts)
        if not alerts:
            return {"skipped": "the alerts are gone"}

        def send(to: str) -> None:
            self._mail.send(alert_email(alerts, id=str(uuid5(EMAIL_IDS, f"{task_id}/{to}"))), to=to)

        return {"sent_to": send_to_each(self._settings.alerts_to, send, step=step), "alerts": len(alerts)}


def alert_email(alerts: Sequence[Alert], *, id: str) -> Email:
    """The e-mail about these alerts in their present state."""
    lines = [
        f"{alert.opened_at:%Y-%m-%d %H:%M} UTC  {one_line(alert.message)}" + (" (closed)" if alert.closed_at else "")
        for alert in alerts
    ]
    more = f" (and {len(alerts) - 1} more)" if len(alerts) > 1 else ""
    return Email(id, f"Alert: {alerts[0].message}{more}", "\n".join(lines) + "\n")
