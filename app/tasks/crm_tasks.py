"""Tasks of leads and the CRM."""

from __future__ import annotations

from typing import Any

from app.schemas.lead import CrmNotify, CrmUpdate
from app.services.container import services
from laneway.platform.execution.task import PlatformTask, task
from laneway.platform.payload import EndedTask


@task(queue="crm", key="lead_id", on_failure="crm_update_ended")
def crm_update(self: PlatformTask, payload: CrmUpdate) -> dict[str, Any]:
    """Tell the CRM of the newest version of a lead, unless it knows the one that was asked for."""
    return services().crm.update(payload, still_mine=self.raise_if_cancelled)


@task(queue="crm")
def crm_update_ended(_self: PlatformTask, payload: EndedTask) -> dict[str, Any]:
    """Note on the lead that the CRM was not told of it."""
    return services().leads.note_end(payload)


@task(queue="crm")
def crm_notify(self: PlatformTask, payload: CrmNotify) -> dict[str, Any]:
    """Write e-mails about a new or changed lead, each recipient once."""
    return services().lead_notices.tell(payload, task_id=self.id, step=self.step)
