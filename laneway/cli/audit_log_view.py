"""What `laneway audit-log` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laneway._changes import change
from laneway.cli.tables import Grid, ident, number, text, when

if TYPE_CHECKING:
    from laneway.schemas.audit_log import AuditLogView


def audit_log_table(entries: Sequence[AuditLogView]) -> Grid:
    """The entries, each as a line."""
    table = Grid(number("entry"), "when", text("who"), ident("what"), text("object", least=16), text("change"))
    for entry in entries:
        shown = "(erased)" if entry.erased else f"{entry.object_kind} {entry.object_id}"
        who = f"{entry.caller_kind} {entry.caller}"
        table.add(entry.seq, when(entry.at), who, entry.action, shown, change(entry.before, entry.after))
    return table
