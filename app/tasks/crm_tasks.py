"""Tasks of leads and the CRM."""

from __future__ import annotations

from typing import Any

from app.core import catalog
from app.schemas.lead import CrmNotify, CrmUpdate
from app.schemas.task import EndedTask
from app.tasks.base import PlatformTask, task


@task(catalog.CRM_UPDATE)
def crm_update(self: PlatformTask, payload: CrmUpdate) -> dict[str, Any]:
    """Tell the CRM of the newest version of a lead, unless it knows the one that was asked for."""
    return self.services.crm.update(payload, still_mine=self.raise_if_cancelled)


@task(catalog.CRM_UPDATE_ENDED)
def crm_update_ended(self: PlatformTask, payload: EndedTask) -> dict[str, Any]:
    """Note on the lead that the CRM was not told of it."""
    return self.services.leads.note_end(payload)


@task(catalog.CRM_NOTIFY)
def crm_notify(self: PlatformTask, payload: CrmNotify) -> dict[str, Any]:
    """Write e-mails about a new or changed lead, each recipient once."""
    return self.services.lead_notices.tell(payload, task_id=self.id, step=self.step)
