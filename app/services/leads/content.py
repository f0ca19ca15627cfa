"""The content of a stored lead, in the parts that the API shows and the CRM receives."""

from __future__ import annotations

from typing import Any, Final, cast

STANDARD_FIELDS: Final = ("name", "email", "phone", "company", "status", "message")
"""The fields that every lead has. `fields` has those of the caller's choice; all others come from the lead's source."""


def split_fields(stored: dict[str, Any]) -> dict[str, Any]:
    """Split the stored fields into the standard ones (None if unknown), `fields`, and all others as `details`."""
    standard: dict[str, Any] = {
        name: stored[name] if isinstance(stored.get(name), str) else None for name in STANDARD_FIELDS
    }
    free: Any = stored.get("fields")
    free = cast("dict[str, Any]", free) if isinstance(free, dict) else {}
    details = {name: value for name, value in stored.items() if name not in STANDARD_FIELDS and value is not free}
    return {**standard, "fields": free, "details": details}
