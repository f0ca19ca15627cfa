"""Tasks of leads and the CRM."""

from __future__ import annotations

from typing import Any

from app.schemas.lead import CrmNotify, CrmUpdate
from app.services.container import services
from laneway import Context, task
from laneway.schemas.payload import EndedTask


@task(queue="crm", key="lead_id", internal=True, on_failure="crm_update_ended")
def crm_update(ctx: Context, payload: CrmUpdate) -> dict[str, Any]:
    """Send the newest version of a lead to the CRM, unless the CRM has the requested one."""
    return services().crm.update(payload, check_ownership=ctx.raise_if_cancelled)


@task(queue="crm")
def crm_update_ended(payload: EndedTask) -> dict[str, Any]:
    """Note on the lead that its CRM update failed."""
    return services().leads.record_update_failure(payload)


@task(queue="crm", internal=True)
def crm_notify(ctx: Context, payload: CrmNotify) -> dict[str, Any]:
    """Send e-mails about a new or changed lead, one to each recipient."""
    return services().lead_notices.send(payload, task_id=ctx.id, step=ctx.step)
