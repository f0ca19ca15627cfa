"""How the entries of the audit log are chained: each hash covers the entry and the hash of the one before.

The contents of an entry (its object, and what was there before and after) can be erased later. So the hash covers a
digest of them, which a random salt makes unguessable.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC
from secrets import token_hex
from typing import Any, Final

from laneway.platform.db.models import AuditLogEntry
from laneway.platform.logging import without_secrets

START: Final = "0" * 64
"""The hash before the first entry."""
LONGEST_NAME: Final = 200
"""Characters of an object's id, and of a caller's name, that are kept."""
LONGEST_DETAILS: Final = 4_000
"""Characters of JSON that are kept of what was there before, and after."""


def new_salt() -> str:
    """A random salt."""
    return token_hex(16)


def kept_details(details: dict[str, Any] | None) -> dict[str, Any] | None:
    """The details of an action as they are stored: plain JSON without secrets, and not too long."""
    if details is None:
        return None
    text = json.dumps(without_secrets(details), default=str)
    return json.loads(text) if len(text) <= LONGEST_DETAILS else {"cut": f"{len(text)} characters"}


def digest_of(entry: AuditLogEntry) -> str:
    """The digest of the contents."""
    return _sha256([entry.salt, entry.object_id, entry.before, entry.after])


def hash_of(entry: AuditLogEntry, *, seq: int | None = None) -> str:
    """The hash of an entry; `seq`: as if it had this number."""
    return _sha256(
        [
            entry.seq if seq is None else seq,
            entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
            *(entry.caller_kind, entry.caller_name, entry.tenant, entry.request_id),
            *(entry.action, entry.object_kind, entry.digest, entry.previous),
        ]
    )


def _sha256(values: list[Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
