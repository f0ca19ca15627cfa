"""What runs by the clock, as data: name, task, crontab (UTC), and after how many seconds a tick is stale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from celery.schedules import crontab


@dataclass(frozen=True, slots=True)
class Entry:
    """One schedule."""

    key: str
    task: str
    when: crontab
    queue: str
    expires: int
    """Seconds after which a tick that found no worker is dropped: the next one does its work."""
    kwargs: dict[str, Any] | None = None

    def as_celery(self) -> dict[str, Any]:
        """The entry as Celery's `beat_schedule` has it."""
        options = {"queue": self.queue, "expires": self.expires}
        return {"task": self.task, "schedule": self.when, "options": options, "kwargs": self.kwargs or {}}


SCHEDULE: Final = (
    Entry("health-sweep", "health_sweep_task", crontab(), "maintenance", 50),
    Entry("follow-ups", "queue_follow_ups_task", crontab(minute="*/15"), "maintenance", 800),
    Entry("analytics-daily", "generate_conversation_analytics_task", crontab(minute=10, hour=0), "analytics", 21_600),
    Entry("performance-hourly", "generate_performance_report_task", crontab(minute=5), "analytics", 3000, {"hours": 1}),
    Entry("analysis-daily", "batch_conversation_analysis_task", crontab(minute=30, hour=1), "analytics", 21_600),
    Entry("workflow-cleanup-daily", "cleanup_old_workflows", crontab(minute=0, hour=2), "maintenance", 21_600,
          {"days": 30}),
    Entry("workflow-report-weekly", "generate_weekly_report", crontab(minute=0, hour=9, day_of_week="mon"),
          "analytics", 86_400, {"hours": 168}),
    Entry("cleanup-daily", "cleanup_old_data_task", crontab(minute=0, hour=3), "maintenance", 21_600),
)  # fmt: skip
