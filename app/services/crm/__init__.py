"""The CRM: a seam with a local implementation and one for REST APIs, and what keeps it up to date."""

from __future__ import annotations

from app.core.config import CrmSettings
from app.db.session import Database
from app.services.crm.base import Crm, CrmConflict, CrmLead, CrmMissing, CrmRefused, CrmUnreadable
from app.services.crm.local import LocalCrm
from app.services.crm.notices import LeadNotices
from app.services.crm.rest import RestCrm
from app.services.crm.sync import CrmSync

__all__ = [
    "Crm", "CrmConflict", "CrmLead", "CrmMissing", "CrmRefused", "CrmSync", "CrmUnreadable", "LeadNotices", "LocalCrm",
    "RestCrm", "make_crm",
]  # fmt: skip


def make_crm(settings: CrmSettings, database: Database) -> Crm:
    """The REST connector where `CRM_BASE_URL` is set, else the local CRM."""
    return RestCrm(settings) if settings.base_url else LocalCrm(database)
