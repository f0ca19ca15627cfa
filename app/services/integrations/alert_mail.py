"""E-mail about alerts, to whoever is configured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID, uuid5

from app.core.settings import MailSettings
from app.services.integrations.mail import Email, Mail, Step, one_line, write_to_each
from laneway.platform.db.models import Alert
from laneway.platform.db.queries import alerts as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import NotConfigured
from laneway.platform.schemas.alert import AlertsOpened

LETTERS: Final = UUID("b7c1d0a2-6f0e-4b8f-9d53-1f2a7c0e6b90")
"""The namespace of the ids of letters."""


class AlertMail:
    """Writes one letter about alerts to each recipient."""

    def __init__(self, database: Database, mail: Mail, settings: MailSettings) -> None:
        self._database, self._mail, self._settings = database, mail, settings

    def tell(self, event: AlertsOpened, *, task_id: str, step: Step) -> dict[str, Any]:
        """Write to every recipient, each in a step of its own. Raises as `write_to_each`, and NotConfigured."""
        if not self._settings.alerts_to:
            raise NotConfigured("E-mail about alerts", "ALERT_MAIL_TO")
        with self._database.reading() as session:
            alerts = repository.by_id(session, event.alerts)
        if not alerts:
            return {"skipped": "the alerts are gone"}

        def write(to: str) -> None:
            self._mail.send(letter(alerts, id=str(uuid5(LETTERS, f"{task_id}/{to}"))), to=to)

        return {"told": write_to_each(self._settings.alerts_to, write, step=step), "alerts": len(alerts)}


def letter(alerts: Sequence[Alert], *, id: str) -> Email:
    """What is written of these alerts, as they are now."""
    lines = [
        f"{alert.opened_at:%Y-%m-%d %H:%M} UTC  {one_line(alert.message)}"
        + (" (over by now)" if alert.closed_at else "")
        for alert in alerts
    ]
    more = f" (and {len(alerts) - 1} more)" if len(alerts) > 1 else ""
    return Email(id, f"Alert: {alerts[0].message}{more}", "\n".join(lines) + "\n")
