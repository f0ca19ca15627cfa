"""The rules of alerts, as one table: kind, severity, condition, threshold, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from laneway.platform.alerts import conditions
from laneway.platform.alerts.conditions import Problem
from laneway.platform.alerts.snapshot import Snapshot
from laneway.platform.webhooks.endpoint_rules import ALERT as RECEIVER_DISABLED

MAX_KIND: Final = 32


class Severity(StrEnum):
    """Whether an alert may wait until the quiet hours are over."""

    LOW = "low"
    SEVERE = "severe"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """When alerts of one kind are open, and what their texts say. An application may have rules of its own."""

    kind: str
    """At most `MAX_KIND` characters."""
    severity: Severity
    condition: Callable[[Snapshot], Iterable[Problem] | None]
    """Returns the problems that exist now; None, or an error: that is not known."""
    advice: str = ""
    """What to do, as a sentence; `{subject}` is replaced. Empty: the text of the problem says it."""
    threshold: str | None = None
    """The setting with the threshold, if there is one."""
    lasts: bool = True
    """False: the alert is about something that has happened. It is told once, and its end is told to nobody."""

    def __post_init__(self) -> None:
        if len(self.kind) > MAX_KIND:
            raise ValueError(f"the kind of an alert has at most {MAX_KIND} characters: {self.kind!r}")

    def message(self, problem: Problem) -> str:
        """What is wrong, and what to do."""
        advice = (problem.advice or self.advice).replace("{subject}", problem.subject)
        return f"{problem.text}. {advice}" if advice else problem.text


RULES: Final = (
    AlertRule(
        kind="failures",
        severity=Severity.LOW,
        condition=conditions.failing_tasks,
        threshold="ALERT_FAILURES_PER_HOUR",
        advice="See why: `laneway dead groups --failed`. Mend the cause, then "
        "`laneway dead requeue --name {subject} --failed`.",
    ),
    AlertRule(
        kind="new_errors",
        severity=Severity.LOW,
        condition=conditions.new_errors,
        advice="See the error: `laneway dead list --failed`, then `laneway dead show ID`.",
        lasts=False,
    ),
    AlertRule(
        kind="backlog",
        severity=Severity.LOW,
        condition=conditions.full_queues,
        threshold="ALERT_BACKLOG",
        advice="Start another worker (`laneway worker --queue {subject}`), or see in `laneway stats` what holds it.",
    ),
    AlertRule(
        kind="oldest",
        severity=Severity.LOW,
        condition=conditions.old_tasks,
        threshold="ALERT_OLDEST_SECONDS",
        advice="See why it waits: `laneway search --queue {subject} --state pending`, then `laneway status ID`. "
        "A paused queue goes on after `laneway queues resume {subject}`.",
    ),
    AlertRule(
        kind="canary",
        severity=Severity.SEVERE,
        condition=conditions.late_canaries,
        threshold="ALERT_CANARY_SECONDS",
    ),
    AlertRule(
        kind="no_worker",
        severity=Severity.SEVERE,
        condition=conditions.unserved_queues,
        advice="Start a worker: `laneway worker --queue {subject}`.",
    ),
    AlertRule(
        kind="dead_letters",
        severity=Severity.LOW,
        condition=conditions.growing_dead_letters,
        threshold="ALERT_DEAD_LETTERS_PER_HOUR",
        advice="See why: `laneway dead groups`. Mend the cause, then `laneway dead requeue --queue {subject}`.",
    ),
    AlertRule(
        kind="schedule",
        severity=Severity.SEVERE,
        condition=conditions.schedules_at_a_standstill,
        advice="Beat runs, and its log has the reason. If it says nothing about this schedule, start Beat again.",
    ),
    AlertRule(
        kind="recorder",
        severity=Severity.SEVERE,
        condition=conditions.unread_journals,
        threshold="ALERT_UNREAD_EVENTS",
        advice="See in the logs of the workers why the database takes no events: it may be slow, held or full. At "
        "MAX_UNREAD_EVENTS the queue accepts no tasks.",
    ),
    AlertRule(
        kind="outbox",
        severity=Severity.SEVERE,
        condition=conditions.unsent_tasks,
        threshold="ALERT_OUTBOX_SECONDS",
        advice="See in `laneway stats` whether the broker is away or the queue is full. "
        "If the broker is away, start it: workers send the tasks when it is back. If the queue is full, start another "
        "worker (`laneway worker --queue {subject}`), or raise MAX_QUEUE_SIZE and start the platform again.",
    ),
    AlertRule(
        kind="broker_memory",
        severity=Severity.SEVERE,
        condition=conditions.full_broker,
        threshold="ALERT_BROKER_MEMORY_PERCENT",
        advice="Above 80 % no tasks are accepted. Start more workers, cancel all waiting tasks of a queue that nobody "
        "needs (`laneway flush QUEUE`), or give the broker more memory (BROKER_MAX_MEMORY, `maxmemory`).",
    ),
    AlertRule(
        kind="disk",
        severity=Severity.SEVERE,
        condition=conditions.full_disks,
        threshold="ALERT_DISK_FREE_PERCENT",
        advice="Delete or move other files on that disk, or enlarge it. `laneway cleanup` frees room only inside the "
        "file of the database, which keeps its size. A full disk stops all submissions.",
    ),
    AlertRule(kind="stranded", severity=Severity.LOW, condition=conditions.stranded_messages),
    AlertRule(kind="unknown_queue", severity=Severity.LOW, condition=conditions.undeclared_queues),
    AlertRule(kind="worker_name", severity=Severity.LOW, condition=conditions.shared_worker_names),
    AlertRule(
        kind="stuck_worker",
        severity=Severity.SEVERE,
        condition=conditions.stuck_workers,
        advice="Its running tasks were finished or returned to their queues. See in its log what it did before; if it "
        "happens again, report it with that log.",
        lasts=False,
    ),
    AlertRule(kind=RECEIVER_DISABLED, severity=Severity.LOW, condition=conditions.disabled_receivers),
)
"""The rules of the library."""
