"""`record` appends an entry to the audit log, in the transaction of the change that it describes.

So a change whose entry cannot be written does not happen, and an entry of a change that was rolled back is not there.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, cast

import structlog
from sqlalchemy import Table, insert
from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.access.caller import current_caller
from laneway.platform.audit_log import chain
from laneway.platform.db.models import AuditLogEntry
from laneway.platform.db.queries import audit_log as queries
from laneway.platform.logging import logger

log = logger(__name__)

_ADD: Final = insert(cast("Table", AuditLogEntry.__table__))
_PART: Final = ""
_outer: ContextVar[str | None] = ContextVar("audited_action", default=None)
"""The action that the current one belongs to; `_PART`: that action has its entry, and parts get none."""


def record(
    session: Session,
    action: str,
    of: tuple[str, str],
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> int | None:
    """Append an entry about the current caller; returns its number, or None for a part of a recorded action.

    `action` is `object.verb`, such as `queue.pause`. `of`: the kind of the object, and its id or name. `before` and
    `after` hold what has changed; they are stored as JSON, without secrets. They must not hold texts of persons.

    Call it as the last statement of the transaction: it locks the end of the log, and whoever locks other rows after
    that could wait for somebody who waits for this lock. Raises DatabaseBusy.
    """
    return record_many(session, action, [(of, before)], after=after)


def record_many(
    session: Session,
    action: str,
    objects: Sequence[tuple[tuple[str, str], dict[str, Any] | None]],
    *,
    after: dict[str, Any] | None = None,
) -> int | None:
    """As `record`, with an entry for each of many objects with their `before`; returns the number of the last one."""
    outer = _outer.get()
    if outer == _PART or not objects:
        return None
    head, common = queries.lock_head(session, start=chain.START), _common(outer or action)
    kept_after, rows = chain.kept_details(after), list[dict[str, Any]]()
    seq, previous = head.seq, head.hash
    for (kind, id), before in objects:
        seq += 1
        row = {**common, "seq": seq, "previous": previous, "salt": chain.new_salt()}
        row |= {"object_kind": kind, "object_id": id[: chain.LONGEST_NAME]}
        row |= {"before": chain.kept_details(before), "after": kept_after}
        row["digest"] = chain.digest_of_row(row)
        row["hash"] = previous = chain.hash_of_row(row)
        rows.append(row)
    head.seq, head.hash = seq, previous
    session.flush()
    session.connection().execute(_ADD, rows)
    for row in rows:
        log.info("audit log", seq=row["seq"], action=row["action"], caller=row["caller_name"], hash=row["hash"])
    return head.seq


def _common(action: str) -> dict[str, Any]:
    """What all entries of one call have."""
    caller = current_caller()
    return {
        "at": clock.now(),
        "caller_kind": caller.kind,
        "caller_name": caller.name[: chain.LONGEST_NAME],
        "tenant": caller.tenant,
        "request_id": caller.request_id or structlog.contextvars.get_contextvars().get("request_id"),
        "action": action,
    }


@contextmanager
def recorded_as(action: str) -> Generator[None]:
    """Record the action in this block under this name: it is how a caller's action is carried out."""
    with _set(action):
        yield


@contextmanager
def parts_of_one_action() -> Generator[None]:
    """Record nothing in this block: its actions are parts of one that has its entry."""
    with _set(_PART):
        yield


@contextmanager
def _set(value: str) -> Generator[None]:
    token = _outer.set(value if _outer.get() is None else _outer.get())
    try:
        yield
    finally:
        _outer.reset(token)
