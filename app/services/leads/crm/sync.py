"""Keeps the CRM up to date: sends a lead's newest version, and never one older than the CRM has.

A task is for one version but sends the newest. After many changes in quick succession the later tasks find that the CRM
has their version already. The row decides what to do next, so a repeated task continues where the last one stopped:

1. There is no record yet: create one. The whole request is stored before it is sent, and a repeat sends the same again.
2. The record is older than the lead: update it with the newest version.
3. The CRM has lost the record: continue with 1.

Tasks of one lead run one at a time, because its id is their ordering key. A worker that stalled and was taken for dead
may still send late. Therefore each request puts a mark on the row when it starts. If a request finds another mark at
its end, another request ran at the same time and the CRM may have an old version. So the newest version is sent again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4, uuid5

from app.db.models import Lead
from app.db.queries import leads as repository
from app.schemas.lead import CrmState, CrmUpdate
from app.services.leads.content import split_fields
from app.services.leads.crm.base import SERVICE, Crm, CrmConflict, CrmLead, CrmMissing, CrmUnreadable
from laneway.platform import clock
from laneway.platform.db.session import Database
from laneway.platform.errors import DatabaseUnavailable, PermanentError, PlatformError, UpstreamError
from laneway.platform.logging import logger

log = logger(__name__)

IDEMPOTENCY_KEYS = UUID("9a4c8b5c-6f5b-4a55-9f0e-2f4f3d0a7c21")
"""The namespace of idempotency keys."""
MAX_REQUESTS = 6
"""The most requests of one task: create, update, find the record gone, create, update, and one more."""
MAX_ERROR_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class StartedRequest:
    """A request that has put its mark on the row. `id` is the record to update, None for a creation."""

    mark: str
    id: str | None
    lead: CrmLead
    key: str


class CrmSync:
    """Sends leads to the CRM."""

    def __init__(self, database: Database, crm: Crm) -> None:
        self._database, self._crm = database, crm

    def update(self, wanted: CrmUpdate, *, check_ownership: Callable[[], None]) -> dict[str, Any]:
        """Bring the CRM to at least the wanted version of a lead.

        `check_ownership` raises when the task must stop. Raises the connector's errors; the lead then has the reason.
        """
        requests, check = 0, check_ownership
        while True:
            lead = self._find(wanted)
            if lead is None:
                return {"skipped": "the lead was deleted"}
            if lead.crm_version >= min(wanted.version or lead.version, lead.version):
                result = {"crm": self._crm.name, "crm_id": lead.crm_id, "version": lead.crm_version}
                return result if requests else {**result, "skipped": "the CRM has it already"}
            check()
            if requests == MAX_REQUESTS:
                raise UpstreamError(SERVICE, "it does not keep the records that it accepts")
            requests += 1
            if not self._send_next_request(lead.uid):
                # This task may have sent an old version last. It sends the newest even if it has lost its lease.
                check = _always_continue

    def _send_next_request(self, uid: str) -> bool:
        """Send one request and record its end; returns False if another request ran at the same time."""
        request = self._start_request(uid)
        if request is None:
            return True
        try:
            if request.id is None:
                return self._finish_request(request, id=self._crm.create(request.lead, key=request.key))
            self._crm.update(request.id, request.lead, key=request.key)
            return self._finish_request(request, id=request.id)
        except CrmMissing as error:
            log.warning("the CRM has lost a lead; it is created again", reason=str(error))
            return self._forget_record(request, gone=request.id)
        except CrmConflict as error:
            if request.id is None and error.existing is not None:
                return self._finish_request(request, id=error.existing, version=0)  # Version 0 leads to an update.
            self._record_error(request, error, maybe_accepted=False)
            raise
        except PlatformError as error:
            refused = isinstance(error, PermanentError) and not isinstance(error, CrmUnreadable)
            if refused and request.id is None:
                self._forget_record(request, gone=None)  # Nothing was created: the next creation may differ.
            if self._record_error(request, error, maybe_accepted=not refused):
                raise
            return False

    def _start_request(self, uid: str) -> StartedRequest | None:
        """Put a mark on the row and return the next request; an unfinished creation is repeated unchanged."""
        with self._database.transaction() as session:
            lead = repository.lock_by_uid(session, uid)
            if lead is None:
                return None
            newest, mark, id = _crm_lead(lead), uuid4().hex, lead.crm_id
            state = lead.crm_request or {}
            if id is not None:
                resends = _resends(lead)
                lead.crm_request = {"mark": mark, "resends": resends}
                return StartedRequest(mark, id, newest, _key("update", uid, newest.version, f"{id}/{resends}"))
            create: dict[str, Any] | None = state.get("create")
            if create is None:
                key = _key("create", uid, newest.version, str(state.get("gone") or ""))
                create = {"key": key, "version": newest.version, "data": newest.data}
            lead.crm_request = {"mark": mark, "create": create}
            return StartedRequest(mark, None, CrmLead(uid, create["version"], create["data"]), create["key"])

    def _finish_request(self, request: StartedRequest, *, id: str, version: int | None = None) -> bool:
        """Record what the CRM has accepted; returns False if another request ran: the CRM's state is then unknown."""
        with self._database.transaction() as session:
            lead = repository.lock_by_uid(session, request.lead.uid)
            if lead is None:
                return True
            marked = _has_mark(lead, request)
            if marked:
                lead.crm_id, lead.crm_request = id, {"resends": _resends(lead)}
                lead.crm_version = request.lead.version if version is None else version
            else:
                _require_resend(lead)
            lead.crm_state = CrmState.SYNCED if lead.crm_version == lead.version else CrmState.PENDING
            lead.crm_synced_at, lead.crm_error = clock.now(), None
        return marked

    def _forget_record(self, request: StartedRequest, *, gone: str | None) -> bool:
        """Record that the CRM has no record of the lead; `gone` is the id of the lost one."""
        with self._database.transaction() as session:
            lead = repository.lock_by_uid(session, request.lead.uid)
            if lead is not None and _has_mark(lead, request):
                lead.crm_id, lead.crm_version = None, 0
                lead.crm_request = {"mark": request.mark, "gone": gone}
                lead.crm_state = CrmState.PENDING
        return True

    def _record_error(self, request: StartedRequest, error: PlatformError, *, maybe_accepted: bool) -> bool:
        """Record why a request failed.

        Returns False if the CRM may have accepted it after a newer request: then the newest version is sent again.
        """
        with suppress(DatabaseUnavailable), self._database.transaction() as session:
            lead = repository.lock_by_uid(session, request.lead.uid)
            if lead is not None and maybe_accepted and not _has_mark(lead, request):
                _require_resend(lead)
                lead.crm_state = CrmState.PENDING
                return False
            if lead is not None and _has_mark(lead, request):
                lead.crm_error = str(error)[:MAX_ERROR_LENGTH]
        return True

    def _find(self, wanted: CrmUpdate) -> Lead | None:
        with self._database.reading() as session:
            lead = repository.find(session, wanted.lead_id)
        return lead if lead is not None and wanted.uid in (None, lead.uid) else None


def _crm_lead(lead: Lead) -> CrmLead:
    """The lead's present version, as the CRM receives it."""
    data = {
        **split_fields(lead.fields),
        "lead_id": lead.lead_id,
        "version": lead.version,
        "source": lead.source,
        "created_at": lead.created_at.isoformat(),
        "updated_at": lead.updated_at.isoformat(),
    }
    return CrmLead(lead.uid, lead.version, data)


def _has_mark(lead: Lead, request: StartedRequest) -> bool:
    return (lead.crm_request or {}).get("mark") == request.mark


def _resends(lead: Lead) -> int:
    return int((lead.crm_request or {}).get("resends") or 0)


def _require_resend(lead: Lead) -> None:
    """Require that the newest version is sent again, with a new idempotency key: the CRM would ignore the old one."""
    lead.crm_request, lead.crm_version = {**(lead.crm_request or {}), "resends": _resends(lead) + 1}, 0
    log.warning("two requests ran at the same time; the newest version is sent again", lead_id=lead.lead_id)


def _always_continue() -> None:
    """Never stop the task."""


def _key(kind: str, uid: str, version: int, id: str) -> str:
    return str(uuid5(IDEMPOTENCY_KEYS, f"{kind}/{uid}/{version}/{id}"))
