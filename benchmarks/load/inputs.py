"""The contents of the requests."""

from __future__ import annotations

from typing import Final

QUESTIONS: Final = (
    "How long do I have to return a bicycle?",
    "What does the warranty cover?",
    "When will it be delivered?",
    "Do you sell sailing boats?",
)
STATUSES: Final = ("new", "contacted", "qualified", "won")
CALCULATION: Final = {"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}
