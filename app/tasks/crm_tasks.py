"""Tasks of leads and the CRM."""

from __future__ import annotations

from typing import Any

from app.schemas.lead import CrmNotify, CrmUpdate
from app.services.container import services
from laneway.platform.execution.task import PlatformTask, task
from laneway.schemas.payload import EndedTask


@task(queue="crm", key="lead_id", on_failure="crm_update_ended")
def crm_update(self: PlatformTask, payload: CrmUpdate) -> dict[str, Any]:
    """Send the newest version of a lead to the CRM, unless the CRM has the requested one."""
    return services().crm.update(payload, check_ownership=self.raise_if_cancelled)


@task(queue="crm")
def crm_update_ended(_self: PlatformTask, payload: EndedTask) -> dict[str, Any]:
    """Note on the lead that its CRM update failed."""
    return services().leads.record_update_failure(payload)


@task(queue="crm")
def crm_notify(self: PlatformTask, payload: CrmNotify) -> dict[str, Any]:
    """Send e-mails about a new or changed lead, one to each recipient."""
    return services().lead_notices.send(payload, task_id=self.id, step=self.step)
