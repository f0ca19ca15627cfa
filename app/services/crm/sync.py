"""Keeps the CRM up to date: a lead's newest version is sent, and what is older than what the CRM took never is.

A task is for one version, but sends the newest: of many changes in quick succession the later tasks then find that the
CRM knows theirs already. The steps that lead there are found from the row each time, so that a repeat goes on:

1. no record yet: the creation is written down (version, content, key), and sent; a repeat sends just that again.
2. the record is older than the lead: an update with the newest version.
3. the CRM has lost the record: back to 1.

Tasks of one lead run one at a time (its id is their ordering key). Should a worker that was taken for dead send an older
version after a newer one was noted, it finds that out when it notes its own, and the newest is sent again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy.orm import Session

from app.core import clock
from app.core.errors import DatabaseUnavailable, PermanentError, PlatformError, UpstreamError
from app.core.logging import logger
from app.db.models import Lead
from app.db.repositories import leads as repository
from app.db.session import Database
from app.schemas.lead import CrmState, CrmUpdate
from app.services.crm.base import SERVICE, Crm, CrmConflict, CrmLead, CrmMissing, CrmUnreadable
from app.services.crm.content import as_crm_lead

log = logger(__name__)

KEYS = UUID("9a4c8b5c-6f5b-4a55-9f0e-2f4f3d0a7c21")
"""The namespace of idempotency keys."""
MOST_STEPS = 5
"""Create, update, found gone, create anew, update; more means that the CRM loses what it takes."""
LONGEST_ERROR = 1000


class CrmSync:
    """Tells the CRM of leads."""

    def __init__(self, database: Database, crm: Crm) -> None:
        self._database, self._crm = database, crm

    def update(self, wanted: CrmUpdate, *, still_mine: Callable[[], None]) -> dict[str, Any]:
        """See to it that the CRM knows at least the wanted version; `still_mine` raises when the task is not to go on.

        Raises as the connector does; then the reason is noted on the lead.
        """
        sent: list[int] = []
        for _ in range(MOST_STEPS):
            lead = self._lead(wanted)
            if lead is None:
                return {"skipped": "the lead was deleted", "sent": sent}
            if lead.crm_version >= (wanted.version or lead.version):
                told: dict[str, Any] = {"crm": self._crm.name, "crm_id": lead.crm_id, "version": lead.crm_version}
                return {**told, "sent": sent} if sent else {**told, "skipped": "the CRM knew it already"}
            still_mine()
            try:
                sent.append(self._step(lead))
            except PlatformError as error:
                self._note(lead.uid, error)
                raise
        raise UpstreamError(SERVICE, "it does not keep what it takes")

    def _step(self, lead: Lead) -> int:
        """One request; the version that was sent, or 0 when it only became known what is to be done next."""
        return self._create(lead) if lead.crm_id is None else self._update(lead, lead.crm_id)

    def _create(self, lead: Lead) -> int:
        begun = self._begin(lead.uid)
        if begun is None:
            return 0
        request, key = begun
        try:
            id = self._crm.create(request, key=key)
        except CrmConflict as conflict:
            if conflict.existing is None:
                raise
            self._finish(request, version=0, id=conflict.existing)  # it is to be updated
            return 0
        except CrmUnreadable:
            raise  # it was created: only the same request again may bring its id
        except PermanentError:
            with self._database.transaction() as session:
                _forget(session, request.uid)  # it was not: the next request may say something else
            raise
        self._finish(request, version=request.version, id=id)
        return request.version

    def _update(self, lead: Lead, id: str) -> int:
        request = as_crm_lead(lead)
        try:
            self._crm.update(id, request, key=_key("update", lead.uid, lead.version, id))
        except CrmMissing as gone:
            log.warning("lead created anew", lead_id=lead.lead_id, reason=str(gone))
            with self._database.transaction() as session:
                _forget(session, lead.uid, gone=id)
            return 0
        self._finish(request, version=request.version, id=id)
        return request.version

    def _begin(self, uid: str) -> tuple[CrmLead, str] | None:
        """Write the creation down, or find the one that was begun; what is sent, and its key."""
        with self._database.transaction() as session:
            lead = repository.locked(session, uid)
            if lead is None or lead.crm_id is not None:
                return None
            begun = lead.crm_creating or {}
            if "key" not in begun:
                request = as_crm_lead(lead)
                key = _key("create", uid, lead.version, str(begun.get("gone", "")))
                begun = {**begun, "key": key, "version": request.version, "data": request.data}
                lead.crm_creating = begun
            return CrmLead(uid, int(begun["version"]), begun["data"]), str(begun["key"])

    def _finish(self, request: CrmLead, *, version: int, id: str) -> None:
        """Note what the CRM has taken. When a newer one had been noted, nobody knows which it has now: none counts."""
        with self._database.transaction() as session:
            lead = repository.locked(session, request.uid)
            if lead is None:
                return
            overtaken = lead.crm_version > version
            lead.crm_id, lead.crm_creating = id, None
            lead.crm_version = 0 if overtaken else version
            lead.crm_state = CrmState.SYNCED if lead.crm_version == lead.version else CrmState.PENDING
            lead.crm_synced_at, lead.crm_error = clock.now(), None
        if overtaken:
            log.warning("an older version overtook a newer one, the newest is sent again", version=version)

    def _note(self, uid: str, error: PlatformError) -> None:
        with suppress(DatabaseUnavailable), self._database.transaction() as session:
            lead = repository.locked(session, uid)
            if lead is not None:
                lead.crm_error = str(error)[:LONGEST_ERROR]

    def _lead(self, wanted: CrmUpdate) -> Lead | None:
        with self._database.reading() as session:
            lead = repository.find(session, wanted.lead_id)
        return lead if lead is not None and wanted.uid in (None, lead.uid) else None


def _forget(session: Session, uid: str, *, gone: str | None = None) -> None:
    """There is no record, and no creation under way; `gone`: the record that there was."""
    lead = repository.locked(session, uid)
    if lead is not None:
        lead.crm_id, lead.crm_version = None, 0
        lead.crm_creating = {"gone": gone} if gone else None


def _key(kind: str, uid: str, version: int, id: str) -> str:
    return str(uuid5(KEYS, f"{kind}/{uid}/{version}/{id}"))
