"""What operators do to workflows is in the audit log, without the data of signals."""

from __future__ import annotations

from laneway.platform.db.queries.audit_log import AuditLogFilter
from tests.laneway.platform.workflows.conftest import WorkflowHarness

APPROVE = {"name": "approve", "kind": "signal", "timeout": 60, "after": ["a"]}


def test_signals_cancels_and_retries_have_one_entry_each(harness: WorkflowHarness) -> None:
    workflows, log = harness.services.workflows, harness.services.audit_log
    harness.start({"name": "a"}, APPROVE, {"name": "b", "after": ["approve"]})
    workflows.signal("w-1", "approve", data={"by": "Ada"})
    workflows.signal("w-1", "approve", data={"by": "Ada"})
    workflows.cancel("w-1")
    workflows.retry("w-1")
    harness.start({"name": "a"}, APPROVE, id="w-2")
    harness.run_all()
    workflows.signal("w-2", "approve", data={"by": "Ada"})

    entries = log.page(AuditLogFilter()).entries[::-1]
    assert [(entry.action, entry.object_id) for entry in entries] == [
        *(("workflow.signal", "w-1"), ("workflow.cancel", "w-1"), ("workflow.retry", "w-1")),
        ("workflow.signal", "w-2"),
    ]
    assert [entry.after for entry in entries if entry.action == "workflow.signal"] == [{"signal": "approve"}] * 2
    assert entries[1].before and (entries[1].before["state"], entries[1].after) == (
        *("pending", {"type": "tried", "version": 1, "state": "cancelled"}),
    )
    assert log.verify().holds
