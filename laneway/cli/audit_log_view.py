"""What `laneway audit-log` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from laneway._printable import one_line
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


def change(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    """What has changed: `paused false → true`; values that stayed are left out."""
    old, new = before or {}, after or {}
    parts: list[str] = []
    for name in dict.fromkeys([*old, *new]):
        if name in old and name in new:
            parts += [f"{name} {_text(old[name])} → {_text(new[name])}"] if old[name] != new[name] else []
        else:
            parts.append(f"{name} {_text(old.get(name, new.get(name)))}")
    return one_line(", ".join(parts))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
