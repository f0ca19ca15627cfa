"""The CRM: an interface, a local implementation, one for REST APIs, and the synchronisation with leads."""

from __future__ import annotations

from app.core.settings import CrmSettings
from app.services.leads.crm.base import Crm, CrmConflict, CrmLead, CrmMissing, CrmRefused, CrmUnreadable
from app.services.leads.crm.local import LocalCrm
from app.services.leads.crm.rest import RestCrm
from app.services.leads.crm.sync import CrmSync
from laneway.platform.db.session import Database

__all__ = [
    "Crm",
    "CrmConflict",
    "CrmLead",
    "CrmMissing",
    "CrmRefused",
    "CrmSync",
    "CrmUnreadable",
    "LocalCrm",
    "RestCrm",
    "make_crm",
]


def make_crm(settings: CrmSettings, database: Database) -> Crm:
    """Make the REST connector if `CRM_BASE_URL` is set, otherwise the local CRM."""
    return RestCrm(settings) if settings.base_url else LocalCrm(database)
