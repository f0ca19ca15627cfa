"""Leads: each change is stored with its CRM update and its e-mail notice in one transaction."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Any, Final
from uuid import UUID, uuid4, uuid5

from sqlalchemy.orm import Session

from app.core.settings import MailSettings
from app.db.models import Lead
from app.db.queries import leads as repository
from app.schemas.lead import (
    CrmNotify,
    CrmState,
    CrmUpdate,
    CrmView,
    LeadAccepted,
    LeadChange,
    LeadContent,
    LeadPage,
    LeadRequest,
    LeadView,
)
from app.services.leads.content import split_fields
from app.services.task_manager import TaskManager
from laneway.platform import clock
from laneway.platform.audit_log.recording import record
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.errors import Conflict, NotFound, PlatformError, UnknownTask, WrongState
from laneway.platform.logging import logger
from laneway.platform.sealing import opened_payload
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.transaction import SubmissionTransaction
from laneway.schemas.payload import EndedTask
from laneway.schemas.task import WAITING, TaskState

log = logger(__name__)

API_SOURCE: Final = "api"
"""The source of leads that clients store through the API."""
LEAD_IDS = UUID("1c9d4b0e-5f5a-4f0e-8f0a-6a4d8d6a2b77")
"""The namespace of the ids of leads from other sources."""
MAX_CANCELLED: Final = 500
"""The most waiting tasks that are cancelled with their lead. Further tasks find that the lead was deleted."""
MAX_ERROR_LENGTH: Final = 1000


class Leads:
    """Stores leads. A repeated request stores nothing twice and queues nothing twice."""

    def __init__(self, database: Database, tasks: TaskManager, mail: MailSettings) -> None:
        self._database, self._tasks, self._mail = database, tasks, mail

    def create(self, request: LeadRequest) -> tuple[LeadAccepted, bool]:
        """Store a lead and queue its tasks; False means that it was accepted before. Raises Conflict, QueueFull."""
        content, lead_id = _content_fields(request), request.lead_id or str(uuid4())
        fingerprint = _fingerprint(content)
        with self._tasks.transaction(bounded=True) as unit:
            lead = self._add(
                unit, lead_id=lead_id, source=API_SOURCE, source_id=lead_id, fields=content, fingerprint=fingerprint
            )
            existing = repository.find(unit.session, lead_id) if lead is None else None
        if lead is not None:
            return _accepted(lead, unit.handles[0].state), True
        if existing is None or existing.fingerprint != fingerprint:
            raise Conflict(f"The id {lead_id!r} was used before for another lead.")
        return self._accepted_before(existing), False

    def put(self, lead_id: str, change: LeadChange) -> tuple[LeadAccepted, bool]:
        """Store a lead, or replace its content as its next version; True means that it is new.

        The same content changes nothing. Raises QueueFull; and when the change is based on a version that the lead does
        not have, Conflict, or NotFound if there is no such lead.
        """
        with self._tasks.transaction(bounded=True) as unit:
            created = self._add_unless_known(unit, lead_id, change)
            lead = created or _require_lead(unit.session, lead_id)
            changed = created is None and self._replace(unit, lead, change)
        if created is None and not changed:
            return self._accepted_before(lead), False
        return _accepted(lead, unit.handles[0].state), created is not None

    def _add_unless_known(self, unit: SubmissionTransaction, lead_id: str, change: LeadChange) -> Lead | None:
        if repository.find(unit.session, lead_id) is not None:
            return None
        if change.version is not None:
            raise NotFound("lead", lead_id)
        content = _content_fields(change)
        fingerprint = _fingerprint(content)
        return self._add(
            unit, lead_id=lead_id, source=API_SOURCE, source_id=lead_id, fields=content, fingerprint=fingerprint
        )

    def _replace(self, unit: SubmissionTransaction, lead: Lead, change: LeadChange) -> bool:
        if change.version not in (None, lead.version):
            raise Conflict(f"The lead {lead.lead_id!r} is now at version {lead.version}.")
        content = {**split_fields(lead.fields)["details"], **_content_fields(change)}
        if content == lead.fields:
            return False
        lead.fields, lead.version, lead.updated_at = content, lead.version + 1, clock.now()
        lead.crm_state = CrmState.PENDING
        self._submit_tasks(unit, lead)
        return True

    def add_from_source(
        self, unit: SubmissionTransaction, *, source: str, source_id: str, conversation_id: str, fields: dict[str, Any]
    ) -> bool:
        """Store a lead from another source and queue its tasks, in the caller's transaction.

        Returns False if it is stored already. Raises Conflict if a client of the API has used its id.
        """
        lead_id = f"{source}-{uuid5(LEAD_IDS, f'{source}/{source_id}').hex}"
        lead = self._add(
            unit,
            lead_id=lead_id,
            source=source,
            source_id=source_id,
            fields=fields,
            fingerprint="",
            conversation_id=conversation_id,
        )
        if lead is None and repository.find_by_source(unit.session, source, source_id) is None:
            raise Conflict(f"The id {lead_id!r} of a lead from {source} was used before for another lead.")
        return lead is not None

    def view(self, lead_id: str) -> LeadView:
        """A lead, and its state in the CRM. Raises NotFound."""
        with self._database.reading() as session:
            lead = repository.find(session, lead_id)
        if lead is None:
            raise NotFound("lead", lead_id)
        return _view(lead)

    def page(
        self, *, before: int | None, limit: int, state: CrmState | None = None, source: str | None = None
    ) -> LeadPage:
        """Leads, newest first."""
        with self._database.reading() as session:
            leads = repository.page(session, before=before, limit=limit, state=state, source=source)
        return LeadPage(leads=[_view(lead) for lead in leads], next=leads[-1].id if len(leads) == limit else None)

    def delete(self, lead_id: str) -> None:
        """Delete a lead with its record in the local CRM, and cancel its waiting tasks. Raises NotFound."""
        with self._database.transaction() as session:
            lead = _require_lead(session, lead_id)
            repository.remove(session, lead)
            session.flush()
            record(session, "lead.delete", ("lead", lead_id))
        try:
            self._cancel_tasks(lead)
        except PlatformError as error:
            log.warning("tasks of a deleted lead not cancelled; they will find it deleted", error=str(error))

    def record_update_failure(self, ended: EndedTask) -> dict[str, Any]:
        """Note on the lead that its CRM update failed, unless the CRM or the lead has a newer version."""
        run = self._tasks.current(ended.task_id)
        wanted = CrmUpdate.model_validate(opened_payload(run.payload))
        with self._database.transaction() as session:
            lead = repository.find(session, wanted.lead_id, lock=True)
            if lead is None or wanted.uid not in (None, lead.uid):
                return {"skipped": "the lead was deleted"}
            version = wanted.version or lead.version
            if run.state == TaskState.COMPLETED or lead.crm_version >= version or version < lead.version:
                return {"skipped": "the lead is newer, or the CRM has it"}
            lead.crm_state = CrmState.FAILED
            lead.crm_error = (f"{run.state}: {run.error}" if run.error else str(run.state))[:MAX_ERROR_LENGTH]
        return {"lead_id": wanted.lead_id, "state": CrmState.FAILED}

    def _add(
        self,
        unit: SubmissionTransaction,
        *,
        lead_id: str,
        source: str,
        source_id: str,
        fields: dict[str, Any],
        fingerprint: str,
        conversation_id: str | None = None,
    ) -> Lead | None:
        now = clock.now()
        lead = repository.add(
            unit.session,
            lead_id=lead_id,
            uid=uuid4().hex,
            source=source,
            source_id=source_id,
            fields=fields,
            fingerprint=fingerprint,
            conversation_id=conversation_id,
            version=1,
            created_at=now,
            updated_at=now,
            crm_state=CrmState.PENDING,
            crm_version=0,
        )
        if lead is not None:
            self._submit_tasks(unit, lead)
        return lead

    def _submit_tasks(self, unit: SubmissionTransaction, lead: Lead) -> None:
        tags = (f"lead:{lead.uid}",)
        update = CrmUpdate(lead_id=lead.lead_id, uid=lead.uid, version=lead.version)
        unit.submit("crm_update", update, options=SubmitOptions(id=_task_id(lead), tags=tags))
        if self._mail.notify_to and (lead.version == 1 or self._mail.notify_updates):
            event = CrmNotify(lead_id=lead.lead_id, uid=lead.uid, version=lead.version)
            notify_id = f"crm_notify:{lead.uid}:{lead.version}"
            unit.submit("crm_notify", event, options=SubmitOptions(id=notify_id, tags=tags))

    def _accepted_before(self, lead: Lead) -> LeadAccepted:
        """The answer to a repeat, with the present state of its task, or of the lead if the task was deleted."""
        try:
            state = TaskState(self._tasks.current(_task_id(lead)).state)
        except UnknownTask:
            state = TaskState.COMPLETED if lead.crm_version >= lead.version else TaskState.FAILED
        return _accepted(lead, state)

    def _cancel_tasks(self, lead: Lead) -> None:
        waiting = Filter(tag=f"lead:{lead.uid}", states=WAITING)
        for task in self._tasks.search(waiting, limit=MAX_CANCELLED)[0]:
            with suppress(WrongState, UnknownTask):  # It has ended meanwhile.
                self._tasks.cancel(task.task_id)


def _require_lead(session: Session, lead_id: str) -> Lead:
    """The lead, locked until the end of the transaction. Raises NotFound."""
    lead = repository.find(session, lead_id, lock=True)
    if lead is None:
        raise NotFound("lead", lead_id)
    return lead


def _task_id(lead: Lead) -> str:
    return f"crm_update:{lead.uid}:{lead.version}"


def _content_fields(content: LeadContent) -> dict[str, Any]:
    names = set(LeadContent.model_fields)
    return content.model_dump(mode="json", include=names, exclude_none=True)


def _fingerprint(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _accepted(lead: Lead, state: TaskState) -> LeadAccepted:
    return LeadAccepted(lead_id=lead.lead_id, version=lead.version, task_id=_task_id(lead), status=state)


def _view(lead: Lead) -> LeadView:
    crm = CrmView(
        state=CrmState(lead.crm_state),
        id=lead.crm_id,
        version=lead.crm_version,
        synced_at=lead.crm_synced_at,
        error=lead.crm_error,
    )
    sent = lead.crm_state != CrmState.UNSENT
    return LeadView(
        lead_id=lead.lead_id,
        version=lead.version,
        source=lead.source,
        conversation_id=lead.conversation_id,
        **split_fields(lead.fields),
        created_at=lead.created_at,
        updated_at=lead.updated_at,
        task_id=_task_id(lead) if sent else None,
        crm=crm,
    )
