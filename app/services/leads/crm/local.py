"""The local CRM: it keeps leads in a table of the platform's own database, for those who have no other."""

from __future__ import annotations

from uuid import UUID, uuid5

from sqlalchemy.exc import IntegrityError

from app.db.models import CrmRecord
from app.db.queries import leads as repository
from app.services.leads.crm.base import SERVICE, CrmLead, CrmMissing, CrmRefused
from laneway.platform import clock
from laneway.platform.db.session import Database

IDS = UUID("52b5a6f8-9d0f-4c39-8a55-0d2f3c4f9a11")
"""The namespace of the ids of its records."""


class LocalCrm:
    """A record for each lead; a version that is older than the record's changes nothing."""

    name = "local"

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, lead: CrmLead, *, key: str) -> str:
        """Make the lead's record; it has one only, whatever the key."""
        del key
        id = str(uuid5(IDS, lead.uid))
        with self._database.transaction() as session:
            try:
                with session.begin_nested():
                    repository.add_record(
                        session, id=id, uid=lead.uid, version=lead.version, data=lead.data, now=clock.now()
                    )
            except IntegrityError:
                record = repository.record(session, id)
                if record is None:
                    raise CrmRefused(SERVICE, "the lead was deleted meanwhile") from None
                _bring_up_to_date(record, lead)
        return id

    def update(self, id: str, lead: CrmLead, *, key: str) -> None:
        """Take the lead as it is now."""
        del key
        with self._database.transaction() as session:
            record = repository.record(session, id)
            if record is None:
                raise CrmMissing(id)
            _bring_up_to_date(record, lead)


def _bring_up_to_date(record: CrmRecord, lead: CrmLead) -> None:
    if record.version < lead.version:
        record.version, record.data, record.updated_at = lead.version, lead.data, clock.now()
