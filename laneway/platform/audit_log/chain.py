"""How the entries of the audit log are chained: each hash covers the entry and the hash of the one before.

The contents of an entry (its object, and what was there before and after) can be erased later. So the hash covers a
digest of them, which a random salt makes unguessable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
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
    return digest_of_row(_row_of(entry))


def hash_of(entry: AuditLogEntry, *, seq: int | None = None) -> str:
    """The hash of an entry; `seq`: as if it had this number."""
    row = _row_of(entry)
    return hash_of_row(row if seq is None else {**row, "seq": seq})


def _row_of(entry: AuditLogEntry) -> dict[str, Any]:
    return {column.key: getattr(entry, column.key) for column in AuditLogEntry.__table__.columns}


def digest_of_row(row: Mapping[str, Any]) -> str:
    """The digest of the contents of an entry that is given by its columns."""
    return _sha256([row["salt"], row["object_id"], row["before"], row["after"]])


def hash_of_row(row: Mapping[str, Any]) -> str:
    """The hash of an entry that is given by its columns."""
    return _sha256(
        [
            row["seq"],
            row["at"].astimezone(UTC).isoformat(timespec="microseconds"),
            *(row["caller_kind"], row["caller_name"], row["tenant"], row["request_id"]),
            *(row["action"], row["object_kind"], row["digest"], row["previous"]),
        ]
    )


def _sha256(values: list[Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
