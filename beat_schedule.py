"""The application's schedules as data: key, task, crontab (UTC), queue, and seconds after which a tick expires."""

from __future__ import annotations

from typing import Final

from celery.schedules import crontab

from laneway.platform.schedules.entry import Schedule

SCHEDULE: Final = (
    Schedule("health-sweep", "health_sweep_task", crontab(), "maintenance", 50),
    Schedule("follow-ups", "queue_follow_ups_task", crontab(minute="*/15"), "maintenance", 800),
    Schedule(
        "analytics-daily", "generate_conversation_analytics_task", crontab(minute=10, hour=0), "analytics", 21_600
    ),
    Schedule(
        "performance-hourly", "generate_performance_report_task", crontab(minute=5), "analytics", 3000, {"hours": 1}
    ),
    Schedule("analysis-daily", "batch_conversation_analysis_task", crontab(minute=30, hour=1), "analytics", 21_600),
    Schedule(
        "workflow-cleanup-daily",
        "cleanup_old_workflows",
        crontab(minute=0, hour=2),
        "maintenance",
        21_600,
        {"days": 30},
    ),
    Schedule(
        "workflow-report-weekly",
        "generate_weekly_report",
        crontab(minute=0, hour=9, day_of_week="mon"),
        "analytics",
        86_400,
        {"hours": 168},
    ),
    Schedule("cleanup-daily", "cleanup_old_data_task", crontab(minute=0, hour=3), "maintenance", 21_600),
)
