"""E-mail about leads: each recipient is told once of each version, as far as SMTP allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID, uuid5

from app.core.config import MailSettings
from app.core.errors import NotConfigured, PlatformError
from app.core.logging import logger
from app.db.models import Lead
from app.db.repositories import leads as repository
from app.db.session import Database
from app.schemas.lead import CrmNotify
from app.services.crm.content import KNOWN, parts
from app.services.mail import Letter, Mail, MailRefused, RecipientsRefused, one_line

log = logger(__name__)

LETTERS: Final = UUID("e0b3f6a4-3c0f-4a57-9d8a-8f6a1f0c4d13")
"""The namespace of the ids of letters."""
Step = Callable[..., Any]
"""Does a named part of a task once: `PlatformTask.step`."""


class LeadNotices:
    """Tells whoever is configured of new and changed leads."""

    def __init__(self, database: Database, mail: Mail, settings: MailSettings) -> None:
        self._database, self._mail, self._settings = database, mail, settings

    def tell(self, event: CrmNotify, *, task_id: str, step: Step) -> dict[str, Any]:
        """Write to every recipient, each in a step of its own: who was written to is not written to again.

        Raises NotConfigured; UpstreamError when some could not be written to now; RecipientsRefused, when all the
        others have their letters.
        """
        if not self._settings.notify_to:
            raise NotConfigured("E-mail about leads", "CRM_NOTIFY_TO")
        with self._database.reading() as session:
            lead = repository.find(session, event.lead_id)
        if lead is None or lead.uid != event.uid:
            return {"skipped": "the lead was deleted"}
        told: list[str] = []
        refused: dict[str, str] = {}
        later: PlatformError | None = None
        for to in self._settings.notify_to:
            try:
                step(f"mail {to}"[:155], self._write, event, lead, task_id=task_id, to=to)
                told.append(to)
            except RecipientsRefused as error:
                refused |= error.refused
            except MailRefused:
                raise
            except PlatformError as error:
                later = later or error
        if later is not None:
            raise later
        if refused:
            raise RecipientsRefused(refused)
        return {"told": told, "version": event.version}

    def _write(self, event: CrmNotify, lead: Lead, *, task_id: str, to: str) -> None:
        self._mail.send(letter(event, lead, id=str(uuid5(LETTERS, f"{task_id}/{to}"))), to=to)


def letter(event: CrmNotify, lead: Lead, *, id: str) -> Letter:
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
    return Letter(id, f"{what}: {who}", "\n".join(lines) + "\n")
