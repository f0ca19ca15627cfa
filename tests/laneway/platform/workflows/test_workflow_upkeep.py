"""The savings assessment, its metrics, the weekly report, and the deletion of old workflows."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select, update

from beat_schedule import SCHEDULE
from laneway.platform import clock
from laneway.platform.db.models import WorkflowMetric, WorkflowRun, WorkflowSignal, WorkflowStepRun
from laneway.platform.workflows.runs import StartOptions
from laneway.schemas.workflow_run import RunState
from tests.laneway.platform.workflows.conftest import WorkflowHarness

INPUTS = {"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}


def assess(harness: WorkflowHarness, id: str, **changes: object) -> None:
    """Run the savings assessment."""
    harness.services.workflows.start("savings_assessment", {**INPUTS, **changes}, options=StartOptions(id=id))
    harness.run_all()


def test_the_assessment_stores_metrics_and_a_summary(harness: WorkflowHarness) -> None:
    assess(harness, "w-1")

    view = harness.view()
    assert view.state is RunState.COMPLETED and view.estimated_savings is not None
    assert view.estimated_savings.model_dump(mode="json") == {"weekly": 33.33, "monthly": 144.44, "yearly": 1733.33}
    assert {name: value for name, value in view.metrics.items() if name != "duration_ms"} == {
        "weekly_savings_cents": 3333,
        "monthly_savings_cents": 14444,
        "yearly_savings_cents": 173333,
        "completed": 1,
    }
    assert view.metrics["duration_ms"] == round(1000 * (view.duration_seconds or 0))
    summary = (view.output or {})["summary"]["summary"]
    assert summary.startswith("Of 1.6667 hours a week 1.3333 can be saved: 33.33 a week")


def test_the_weekly_report_counts_runs_savings_and_durations_and_can_be_fetched(harness: WorkflowHarness) -> None:
    start = clock.now()
    assess(harness, "w-1")
    assess(harness, "w-2", automation_percent=40)
    harness.scripts["a"] = [ValueError("wrong")]
    harness.start({"name": "a"}, id="w-3")
    harness.start({"name": "pause", "kind": "wait", "seconds": 60}, id="w-4")
    harness.start({"name": "pause", "kind": "wait", "seconds": 60}, id="w-5")
    harness.services.workflows.cancel("w-5")
    harness.run_all()
    with harness.services.database.transaction() as session:
        old = start - timedelta(days=30)
        session.execute(update(WorkflowRun).where(WorkflowRun.id == "w-4").values(accepted_at=start))
    assess(harness, "w-old")
    with harness.services.database.transaction() as session:
        session.execute(update(WorkflowRun).where(WorkflowRun.id == "w-old").values(accepted_at=old))

    harness.services.workflow_reports.weekly("r-1", start=start, end=clock.now())

    data = harness.services.analytics.report("r-1").data
    total = data["total"]
    assert {name: total[name] for name in ("runs", "completed", "failed", "cancelled", "unfinished")} == {
        "runs": 5,
        "completed": 2,
        "failed": 1,
        "cancelled": 1,
        "unfinished": 1,
    }
    assert (total["completion_rate"], total["weekly_savings"]) == (0.5, 50.0)  # 33.33 and 16.67
    with harness.services.database.reading() as session:
        mean = session.scalar(
            select(func.avg(WorkflowMetric.value)).where(
                WorkflowMetric.name == "duration_ms", WorkflowMetric.run_id.in_(["w-1", "w-2"])
            )
        )
    assert total["mean_duration_seconds"] == round(float(mean or 0) / 1000, 3)
    assert [one["name"] for one in data["types"]] == ["savings_assessment", "tried"]
    assert data["types"][1]["weekly_savings"] == 0


def test_a_report_on_a_week_without_workflows_has_no_rates(harness: WorkflowHarness) -> None:
    harness.services.workflow_reports.weekly("r-1", start=clock.now() - timedelta(days=7), end=clock.now())

    total = harness.services.analytics.report("r-1").data["total"]
    assert (total["runs"], total["completion_rate"], total["mean_duration_seconds"]) == (0, None, None)


def test_old_workflows_are_deleted_and_unfinished_ones_stay(harness: WorkflowHarness) -> None:
    for id in ("old", "young"):
        assess(harness, id)
    harness.start({"name": "approve", "kind": "signal", "timeout": 60}, {"name": "a"}, id="open")
    harness.services.workflows.signal("open", "approve", data={})
    long_ago = clock.now() - timedelta(days=31)
    with harness.services.database.transaction() as session:
        old = update(WorkflowRun).where(WorkflowRun.id.in_(["old", "open"]))
        session.execute(old.values(accepted_at=long_ago))
        session.execute(update(WorkflowRun).where(WorkflowRun.id == "old").values(finished_at=long_ago))

    before = clock.now() - timedelta(days=30)
    assert harness.services.retention.clean_up_workflows(before=before, batch=1) == 1

    with harness.services.database.reading() as session:
        assert sorted(session.scalars(select(WorkflowRun.id))) == ["open", "young"]
        for table in (WorkflowStepRun, WorkflowMetric, WorkflowSignal):
            assert "old" not in session.scalars(select(table.run_id)).all()


def test_upkeep_and_report_are_on_the_schedule() -> None:
    found = {entry.task: entry for entry in SCHEDULE if "workflow" in entry.key}

    cleanup, weekly = found["cleanup_old_workflows"], found["generate_weekly_report"]
    assert (cleanup.when.hour, cleanup.when.minute, cleanup.kwargs) == ({2}, {0}, {"days": 30})
    assert (weekly.when.hour, weekly.when.minute, weekly.when.day_of_week) == ({9}, {0}, {1})
