"""The interface of a CRM, and its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from laneway.platform.errors import PermanentError, RetryableError, UpstreamRefused

SERVICE = "The CRM"


class CrmRefused(UpstreamRefused):
    """The CRM refuses the request; it would refuse a repeat as well."""


class CrmUnreadable(UpstreamRefused):
    """The CRM accepted the lead, but its response has no record id."""


class CrmMissing(PermanentError):
    """The CRM has no record with the id that it gave before."""

    status, title = 404, "Unknown to the CRM"

    template = "The CRM has no record {id!r} any more."
    id: str


class CrmConflict(RetryableError):
    """The CRM has conflicting data; `existing` is the record that it names instead."""

    status, title = 409, "Conflict in the CRM"

    template = "The CRM answered 409: {reason}"
    reason: str
    existing: str | None = None


@dataclass(frozen=True, slots=True)
class CrmLead:
    """One version of a lead, as the CRM receives it.

    `data` has every field of a lead, None if unknown: name, email, phone, company, status, message, source, lead_id,
    version, created_at, updated_at, `fields` and `details`.
    """

    uid: str
    version: int
    data: dict[str, Any]


class Crm(Protocol):
    """A CRM. `key` is the idempotency key: the same request with the same key has its effect once."""

    name: str

    def create(self, lead: CrmLead, *, key: str) -> str:
        """Create a record and return its id.

        Raises UpstreamError and CrmConflict (retryable), CrmRefused and CrmUnreadable (permanent).
        """
        ...

    def update(self, id: str, lead: CrmLead, *, key: str) -> None:
        """Write the lead into the record. Raises CrmMissing, and the errors of `create`."""
        ...
