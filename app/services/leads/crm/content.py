"""What a stored lead says, in the parts that the API shows and a CRM is told."""

from __future__ import annotations

from typing import Any, Final, cast

from app.db.models import Lead
from app.services.leads.crm.base import CrmLead

KNOWN: Final = ("name", "email", "phone", "company", "status", "message")
"""The fields that each lead may have; `fields` has those of the caller's choice, the rest is its source's."""


def parts(stored: dict[str, Any]) -> dict[str, Any]:
    """Every known field, None where nothing is known; `fields`; and what else there is as `details`."""
    known: dict[str, Any] = {name: stored[name] if isinstance(stored.get(name), str) else None for name in KNOWN}
    free: Any = stored.get("fields")
    free = cast("dict[str, Any]", free) if isinstance(free, dict) else {}
    details = {name: value for name, value in stored.items() if name not in KNOWN and value is not free}
    return {**known, "fields": free, "details": details}


def as_crm_lead(lead: Lead) -> CrmLead:
    """The lead as it is now."""
    data = {
        **parts(lead.fields),
        "lead_id": lead.lead_id,
        "version": lead.version,
        "source": lead.source,
        "created_at": lead.created_at.isoformat(),
        "updated_at": lead.updated_at.isoformat(),
    }
    return CrmLead(lead.uid, lead.version, data)
