"""E-mail about leads: each recipient is told once of each version, as far as SMTP allows."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID, uuid5

from app.core.settings import MailSettings
from app.db.models import Lead
from app.db.queries import leads as repository
from app.schemas.lead import CrmNotify
from app.services.integrations.mail import Email, Mail, Step, one_line, write_to_each
from app.services.leads.crm.content import KNOWN, parts
from laneway.platform.db.session import Database
from laneway.platform.errors import NotConfigured

LETTERS: Final = UUID("e0b3f6a4-3c0f-4a57-9d8a-8f6a1f0c4d13")
"""The namespace of the ids of letters."""


class LeadNotices:
    """Tells whoever is configured of new and changed leads."""

    def __init__(self, database: Database, mail: Mail, settings: MailSettings) -> None:
        self._database, self._mail, self._settings = database, mail, settings

    def tell(self, event: CrmNotify, *, task_id: str, step: Step) -> dict[str, Any]:
        """Write to every recipient, each in a step of its own: who was written to is not written to again.

        Raises NotConfigured, and as `write_to_each`.
        """
        if not self._settings.notify_to:
            raise NotConfigured("E-mail about leads", "CRM_NOTIFY_TO")
        with self._database.reading() as session:
            lead = repository.find(session, event.lead_id)
        if lead is None or lead.uid != event.uid:
            return {"skipped": "the lead was deleted"}

        def write(to: str) -> None:
            self._mail.send(letter(event, lead, id=str(uuid5(LETTERS, f"{task_id}/{to}"))), to=to)

        told = write_to_each(self._settings.notify_to, write, step=step)
        return {"told": told, "version": event.version}


def letter(event: CrmNotify, lead: Lead, *, id: str) -> Email:
    """What is written of a lead, as it is now."""
    known = parts(lead.fields)
    who = one_line(known["name"] or known["company"] or known["email"] or lead.lead_id)
    what = "New lead" if event.version == 1 else f"Lead changed (version {event.version})"
    lines = [f"{what}: {who}", ""]
    lines += [f"{name}: {one_line(known[name])}" for name in KNOWN if known[name] and name != "message"]
    lines += [f"{name}: {one_line(str(value))}" for name, value in known["fields"].items() if value is not None]
    lines += [f"source: {lead.source}", f"lead: {lead.lead_id}"]
    if lead.version > event.version:
        lines.append(f"(as of version {lead.version})")
    if known["message"]:
        lines += ["", known["message"]]
    return Email(id, f"{what}: {who}", "\n".join(lines) + "\n")
