"""What `laneway audit` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laneway.cli.tables import Fields
from laneway.schemas.choices import TaskState

if TYPE_CHECKING:
    from laneway.schemas.audit import AuditView, ResultReportView


def audit_table(audit: AuditView) -> Fields:
    """The number of tasks in each state, then the missing tasks."""
    table = Fields()
    table.add("accepted", str(audit.accepted))
    for state in TaskState:
        table.add(f"  {state.value}", str(audit.by_state.get(state, 0)))
    waiting, leased = (sum(getattr(stats, name) for stats in audit.engine.values()) for name in ("waiting", "leased"))
    table.add("in the engine", f"{waiting} waiting, {leased} leased by workers")
    table.add("events not recorded", str(audit.unread_events))
    _add_queues(table, audit)
    for missing in audit.unaccounted:
        table.add("missing", f"{missing.task_id} {missing.name} ({missing.state}): {missing.why}")
    for id in audit.unknown:
        table.add("unknown to the history", id)
    for id in audit.again:
        table.add("finished, but queued", id)
    for stray in audit.strays:
        table.add("in no state", f"{stray.id} in {stray.queue}: {stray.kind}")
    if audit.not_listed:
        table.add("", f"… and {audit.not_listed} more")
    _add_results(table, audit.results)
    return table


def _add_queues(table: Fields, audit: AuditView) -> None:
    for queue, stats in audit.engine.items():
        if stats.newer:
            table.add("not compared", f"{queue}: a newer version of Laneway uses it (format {stats.format})")
        if stats.set_aside:
            table.add("set aside", f"{queue}: {stats.set_aside} messages of a newer version of Laneway")
    for queue, older in audit.older.items():
        table.add("older copy", f"{queue}: the {older} was restored from an older copy, or has lost data")
    for unknown in audit.unknown_queues:
        table.add("unknown queue", str(unknown))


def _add_results(table: Fields, results: ResultReportView) -> None:
    if not results.listable:
        table.add("results", "not checked: the result store is not Redis or Valkey")
        return
    counts = ", ".join(f"{number} {kind}" for kind, number in results.found.items())
    repaired = f" ({results.repaired} restored)" if results.repaired else ""
    table.add("results", f"{results.looked_at} checked: {counts}{repaired}")
    if not results.scanned_all:
        table.add("", "the store has more results than were searched for unknown tasks")
    for finding in results.named:
        stored = f"the store has {finding.stored}" if finding.stored else "the store has none"
        detail = f" ({finding.state}): {stored}" if finding.state else ""
        table.add(f"result {finding.kind}", f"{finding.task_id}{detail}")
    if sum(results.found.values()) > len(results.named):
        table.add("", f"… and {sum(results.found.values()) - len(results.named)} more")
