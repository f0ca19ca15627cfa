"""What a CRM must be able to do, and how it says that it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from laneway.platform.errors import PermanentError, RetryableError, UpstreamRefused

SERVICE = "The CRM"


class CrmRefused(UpstreamRefused):
    """The CRM does not take this: doing it again would be refused again."""


class CrmUnreadable(UpstreamRefused):
    """The CRM took the lead, and its answer does not say under which id."""


class CrmMissing(PermanentError):
    """The CRM has no record with the id that it once gave."""

    status, title = 404, "Unknown to the CRM"

    template = "The CRM has no record {id!r} any more."
    id: str


class CrmConflict(RetryableError):
    """The CRM has something that stands against this; `existing`: the record that it names instead."""

    status, title = 409, "Conflict in the CRM"

    template = "The CRM answered 409: {reason}"
    reason: str
    existing: str | None = None


@dataclass(frozen=True, slots=True)
class CrmLead:
    """A lead as it is to be known by the CRM.

    `data` has every field of a lead, None where nothing is known: name, email, phone, company, status, message, source,
    lead_id, version, created_at, updated_at, `fields` and `details`.
    """

    uid: str
    version: int
    data: dict[str, Any]


class Crm(Protocol):
    """One CRM. `key`: the idempotency key; the same request with the same key has its effect once."""

    name: str

    def create(self, lead: CrmLead, *, key: str) -> str:
        """Make a record; its id.

        Raises UpstreamError and CrmConflict (to be tried again), CrmRefused, CrmUnreadable.
        """
        ...

    def update(self, id: str, lead: CrmLead, *, key: str) -> None:
        """Make the record say what the lead says. Raises CrmMissing, and as `create`."""
        ...
