"""E-mail about leads: each recipient gets one e-mail per version, as far as SMTP allows."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID, uuid5

from app.core.settings import MailSettings
from app.db.models import Lead
from app.db.queries import leads as repository
from app.schemas.lead import CrmNotify
from app.services.integrations.mail import Email, Mail, RunStep, one_line, send_to_each
from app.services.leads.content import STANDARD_FIELDS, split_fields
from laneway.platform.db.session import Database
from laneway.platform.errors import NotConfigured

EMAIL_IDS: Final = UUID("e0b3f6a4-3c0f-4a57-9d8a-8f6a1f0c4d13")
"""The namespace of the e-mails' ids."""


class LeadNotices:
    """E-mails the addresses in `CRM_NOTIFY_TO` about new and changed leads."""

    def __init__(self, database: Database, mail: Mail, settings: MailSettings) -> None:
        self._database, self._mail, self._settings = database, mail, settings

    def send(self, event: CrmNotify, *, task_id: str, step: RunStep) -> dict[str, Any]:
        """Send an e-mail to every recipient, each in its own step, so that a repeat skips those already sent.

        Raises NotConfigured, and the errors of `send_to_each`.
        """
        if not self._settings.notify_to:
            raise NotConfigured("E-mail about leads", "CRM_NOTIFY_TO")
        with self._database.reading() as session:
            lead = repository.find(session, event.lead_id)
        if lead is None or lead.uid != event.uid:
            return {"skipped": "the lead was deleted"}

        def send(to: str) -> None:
            self._mail.send(lead_email(event, lead, id=str(uuid5(EMAIL_IDS, f"{task_id}/{to}"))), to=to)

        sent_to = send_to_each(self._settings.notify_to, send, step=step)
        return {"sent_to": sent_to, "version": event.version}


def lead_email(event: CrmNotify, lead: Lead, *, id: str) -> Email:
    """The e-mail about a lead; it shows the lead's present version."""
    content = split_fields(lead.fields)
    person = one_line(content["name"] or content["company"] or content["email"] or lead.lead_id)
    title = "New lead" if event.version == 1 else f"Lead changed (version {event.version})"
    lines = [f"{title}: {person}", ""]
    lines += [f"{name}: {one_line(content[name])}" for name in STANDARD_FIELDS if content[name] and name != "message"]
    lines += [f"{name}: {one_line(str(value))}" for name, value in content["fields"].items() if value is not None]
    lines += [f"source: {lead.source}", f"lead: {lead.lead_id}"]
    if lead.version > event.version:
        lines.append(f"(as of version {lead.version})")
    if content["message"]:
        lines += ["", content["message"]]
    return Email(id, f"{title}: {person}", "\n".join(lines) + "\n")
