"""The local CRM: keeps leads in a table of the application's own database, for use without an external CRM."""

from __future__ import annotations

from uuid import UUID, uuid5

from sqlalchemy.exc import IntegrityError

from app.db.models import CrmRecord
from app.db.queries import leads as repository
from app.services.leads.crm.base import SERVICE, CrmLead, CrmMissing, CrmRefused
from laneway.platform import clock
from laneway.platform.db.session import Database

RECORD_IDS = UUID("52b5a6f8-9d0f-4c39-8a55-0d2f3c4f9a11")
"""The namespace of the records' ids."""


class LocalCrm:
    """Keeps one record per lead. A version older than the record's changes nothing."""

    name = "local"

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, lead: CrmLead, *, key: str) -> str:
        """Create the lead's record. A lead has one record only, whatever the key."""
        del key
        id = str(uuid5(RECORD_IDS, lead.uid))
        with self._database.transaction() as session:
            try:
                with session.begin_nested():
                    repository.add_record(
                        session, id=id, uid=lead.uid, version=lead.version, data=lead.data, now=clock.now()
                    )
            except IntegrityError:
                record = repository.lock_record(session, id)
                if record is None:
                    raise CrmRefused(SERVICE, "the lead was deleted meanwhile") from None
                _update_if_newer(record, lead)
        return id

    def update(self, id: str, lead: CrmLead, *, key: str) -> None:
        """Write the lead's version into its record."""
        del key
        with self._database.transaction() as session:
            record = repository.lock_record(session, id)
            if record is None:
                raise CrmMissing(id)
            _update_if_newer(record, lead)


def _update_if_newer(record: CrmRecord, lead: CrmLead) -> None:
    if record.version < lead.version:
        record.version, record.data, record.updated_at = lead.version, lead.data, clock.now()
