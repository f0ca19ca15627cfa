"""Turns the result of an audit into the view that the API and the command line show."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from laneway.platform.operations.audit import AuditReport
from laneway.schemas.audit import AuditView
from laneway.schemas.task import TaskState

MOST_LISTED: Final = 1000
"""Findings of each kind that a view lists. A broker that has lost its data has as many findings as tasks waited."""


def audit_view(report: AuditReport) -> AuditView:
    """The view of a report."""
    findings = (report.unaccounted, report.unknown, report.again, report.strays)
    return AuditView.model_validate(
        {
            "accepted": report.accepted,
            "by_state": {state: report.by_state.get(state, 0) for state in TaskState},
            "engine": {
                queue: {
                    "waiting": stats.waiting,
                    "leased": stats.leased,
                    "dead": stats.dead,
                    "set_aside": stats.set_aside,
                    "format": stats.format,
                    "newer": stats.is_newer,
                }
                for queue, stats in report.engine.items()
            },
            "unread_events": report.unread,
            "unaccounted": [asdict(missing) for missing in report.unaccounted[:MOST_LISTED]],
            "unknown": report.unknown[:MOST_LISTED],
            "again": report.again[:MOST_LISTED],
            "strays": [asdict(stray) for stray in report.strays[:MOST_LISTED]],
            "older": {queue: older.value for queue, older in report.older.items()},
            "unknown_queues": report.unknown_queues,
            "repaired": report.repaired,
            "open": report.open,
            "not_listed": sum(max(0, len(each) - MOST_LISTED) for each in findings),
            "balanced": report.balanced,
            "results": asdict(report.results),
        }
    )
