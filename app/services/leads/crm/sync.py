"""Keeps the CRM up to date: a lead's newest version is sent, and what is older than what the CRM took never is.

A task is for one version, but sends the newest: of many changes in quick succession the later tasks then find that the
CRM knows theirs already. What is to be done next is found from the row each time, so that a repeat goes on:

1. no record yet: a creation. It is written down whole before it is sent, and a repeat sends just that again.
2. the record is older than the lead: an update with the newest version.
3. the CRM has lost the record: back to 1.

Tasks of one lead run one at a time (its id is their ordering key). A worker that stalled and was taken for dead may
still send late; so each request is marked on the row when it begins, and whoever finds another's mark at the end knows
that the two may have overtaken each other: then the newest version is sent again.
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
from app.services.leads.crm.base import SERVICE, Crm, CrmConflict, CrmLead, CrmMissing, CrmUnreadable
from app.services.leads.crm.content import as_crm_lead
from laneway.platform import clock
from laneway.platform.db.session import Database
from laneway.platform.errors import DatabaseUnavailable, PermanentError, PlatformError, UpstreamError
from laneway.platform.logging import logger

log = logger(__name__)

KEYS = UUID("9a4c8b5c-6f5b-4a55-9f0e-2f4f3d0a7c21")
"""The namespace of idempotency keys."""
MOST_REQUESTS = 6
"""Create, update, found gone, create anew, update, and one more; then the CRM loses what it takes."""
LONGEST_ERROR = 1000


@dataclass(frozen=True, slots=True)
class Sending:
    """A request that was begun. `id`: the record to update, None for a creation."""

    mark: str
    id: str | None
    lead: CrmLead
    key: str


class CrmSync:
    """Tells the CRM of leads."""

    def __init__(self, database: Database, crm: Crm) -> None:
        self._database, self._crm = database, crm

    def update(self, wanted: CrmUpdate, *, still_mine: Callable[[], None]) -> dict[str, Any]:
        """See to it that the CRM knows at least the wanted version; `still_mine` raises when the task is not to go on.

        Raises as the connector does; then the reason is noted on the lead.
        """
        requests, check = 0, still_mine
        while True:
            lead = self._lead(wanted)
            if lead is None:
                return {"skipped": "the lead was deleted"}
            if lead.crm_version >= min(wanted.version or lead.version, lead.version):
                told = {"crm": self._crm.name, "crm_id": lead.crm_id, "version": lead.crm_version}
                return told if requests else {**told, "skipped": "the CRM knew it already"}
            check()
            if requests == MOST_REQUESTS:
                raise UpstreamError(SERVICE, "it does not keep what it takes")
            requests += 1
            if not self._send(lead.uid):
                check = _go_on  # who may have sent something old sends the newest, whoever has the task by now

    def _send(self, uid: str) -> bool:
        """One request, and its end noted; False when another one was under way at the same time."""
        sending = self._begin(uid)
        if sending is None:
            return True
        try:
            if sending.id is None:
                return self._finish(sending, id=self._crm.create(sending.lead, key=sending.key))
            self._crm.update(sending.id, sending.lead, key=sending.key)
            return self._finish(sending, id=sending.id)
        except CrmMissing as gone:
            log.warning("the CRM has lost a lead, it is created anew", reason=str(gone))
            return self._forget(sending, gone=sending.id)
        except CrmConflict as conflict:
            if sending.id is None and conflict.existing is not None:
                return self._finish(sending, id=conflict.existing, version=0)  # to be updated
            self._note(sending, conflict, taken=False)
            raise
        except PlatformError as error:
            refused = isinstance(error, PermanentError) and not isinstance(error, CrmUnreadable)
            if refused and sending.id is None:
                self._forget(sending, gone=None)  # it was not made: the next creation may say something else
            if self._note(sending, error, taken=not refused):
                raise
            return False

    def _begin(self, uid: str) -> Sending | None:
        """Mark the next request on the row; a creation whose end is not known is the next one again."""
        with self._database.transaction() as session:
            lead = repository.locked(session, uid)
            if lead is None:
                return None
            request, mark, id = as_crm_lead(lead), uuid4().hex, lead.crm_id
            held = lead.crm_request or {}
            if id is not None:
                again = _again(lead)
                lead.crm_request = {"mark": mark, "again": again}
                return Sending(mark, id, request, _key("update", uid, request.version, f"{id}/{again}"))
            create: dict[str, Any] | None = held.get("create")
            if create is None:
                key = _key("create", uid, request.version, str(held.get("gone") or ""))
                create = {"key": key, "version": request.version, "data": request.data}
            lead.crm_request = {"mark": mark, "create": create}
            return Sending(mark, None, CrmLead(uid, create["version"], create["data"]), create["key"])

    def _finish(self, sending: Sending, *, id: str, version: int | None = None) -> bool:
        """Note what the CRM has taken, unless another request was under way: then nobody knows what it has now."""
        with self._database.transaction() as session:
            lead = repository.locked(session, sending.lead.uid)
            if lead is None:
                return True
            mine = _is_mine(lead, sending)
            if mine:
                lead.crm_id, lead.crm_request = id, {"again": _again(lead)}
                lead.crm_version = sending.lead.version if version is None else version
            else:
                _send_anew(lead)
            lead.crm_state = CrmState.SYNCED if lead.crm_version == lead.version else CrmState.PENDING
            lead.crm_synced_at, lead.crm_error = clock.now(), None
        return mine

    def _forget(self, sending: Sending, *, gone: str | None) -> bool:
        """There is no record, and no creation under way; `gone`: the record that there was."""
        with self._database.transaction() as session:
            lead = repository.locked(session, sending.lead.uid)
            if lead is not None and _is_mine(lead, sending):
                lead.crm_id, lead.crm_version = None, 0
                lead.crm_request = {"mark": sending.mark, "gone": gone}
                lead.crm_state = CrmState.PENDING
        return True

    def _note(self, sending: Sending, error: PlatformError, *, taken: bool) -> bool:
        """Why it failed; `taken`: the CRM may have taken it. False when it did so behind something newer."""
        with suppress(DatabaseUnavailable), self._database.transaction() as session:
            lead = repository.locked(session, sending.lead.uid)
            if lead is not None and taken and not _is_mine(lead, sending):
                _send_anew(lead)
                lead.crm_state = CrmState.PENDING
                return False
            if lead is not None and _is_mine(lead, sending):
                lead.crm_error = str(error)[:LONGEST_ERROR]
        return True

    def _lead(self, wanted: CrmUpdate) -> Lead | None:
        with self._database.reading() as session:
            lead = repository.find(session, wanted.lead_id)
        return lead if lead is not None and wanted.uid in (None, lead.uid) else None


def _is_mine(lead: Lead, sending: Sending) -> bool:
    return (lead.crm_request or {}).get("mark") == sending.mark


def _again(lead: Lead) -> int:
    return int((lead.crm_request or {}).get("again") or 0)


def _send_anew(lead: Lead) -> None:
    """Nobody knows what the CRM has; the next update has a new key: with the old one it would be taken for a repeat."""
    lead.crm_request, lead.crm_version = {**(lead.crm_request or {}), "again": _again(lead) + 1}, 0
    log.warning("two requests at the same time, the newest version is sent again", lead_id=lead.lead_id)


def _go_on() -> None:
    """Nothing stands against it."""


def _key(kind: str, uid: str, version: int, id: str) -> str:
    return str(uuid5(KEYS, f"{kind}/{uid}/{version}/{id}"))
