"""The rules for the platform's own settings: those that are refused at start, and those that work but hurt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from laneway.doctor.findings import Check, Fine, Outcome, error, warning

AREA: Final = "settings"
SHORT_LEASE: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFacts:
    """The settings. `problems`: why they are refused; then nothing else is known."""

    problems: Sequence[str] = ()
    misspelt: Sequence[str] = ()
    is_production: bool = False
    exceptions: Sequence[str] = ()
    signs: bool = True
    alert_backlog: int = 1000
    max_queue_size: int = 10_000
    lease_seconds: float = 15.0
    status_hours: int = 24
    keep_days: int = 30
    log_level: str = "INFO"


def valid(facts: SettingsFacts) -> Outcome:
    if not facts.problems:
        return Fine("the settings are valid")
    return error(
        f"The settings are not valid: {'; '.join(facts.problems)}",
        why="No program of the platform starts.",
        do="Correct them in .env or in the environment; docs/reference/settings.md lists all.",
    )


def spelling(facts: SettingsFacts) -> Outcome:
    if not facts.misspelt:
        return Fine("no setting is misspelt")
    return warning(
        " ".join(facts.misspelt),
        why="A misspelt setting does nothing, and the default is in force.",
        do="Correct the name, or remove the line.",
    )


def exceptions(facts: SettingsFacts) -> Outcome:
    if not (facts.exceptions and facts.is_production):
        return Fine("no exception from the rules of safety in production")
    return warning(
        f"ALLOW_INSECURE makes exceptions in production: {', '.join(facts.exceptions)}.",
        why="These secrets can be guessed, or others can read them.",
        do="Correct each of them, and remove it from ALLOW_INSECURE.",
    )


def signing(facts: SettingsFacts) -> Outcome:
    if facts.signs or not facts.is_production:
        return Fine("messages are signed" if facts.signs else "messages are not signed, and this is no production")
    return warning(
        "Messages are not signed (MESSAGE_SIGNING=off).",
        why="Whoever can write to the broker can let workers run any registered task.",
        do="laneway keys create, then KEY_RING_FILE for every process.",
    )


def backlog(facts: SettingsFacts) -> Outcome:
    if facts.alert_backlog < facts.max_queue_size:
        return Fine("the alert of a backlog comes before a queue is full")
    return warning(
        f"ALERT_BACKLOG is {facts.alert_backlog}, and MAX_QUEUE_SIZE is {facts.max_queue_size}.",
        why="A queue is full and refuses tasks before the alert opens.",
        do=f"ALERT_BACKLOG={max(1, facts.max_queue_size // 10)}",
    )


def lease(facts: SettingsFacts) -> Outcome:
    if facts.lease_seconds >= SHORT_LEASE:
        return Fine(f"a lease lasts {facts.lease_seconds:g} s")
    return warning(
        f"TASK_LEASE_SECONDS is {facts.lease_seconds:g}.",
        why="A worker that stands still for a moment (swapping, a snapshot of its machine) loses its tasks to others.",
        do="TASK_LEASE_SECONDS=15",
    )


def retention(facts: SettingsFacts) -> Outcome:
    if facts.status_hours <= 24 * facts.keep_days:
        return Fine(f"tasks are kept for {facts.keep_days} days")
    return warning(
        f"TASK_STATUS_EXPIRY_HOURS is {facts.status_hours}, and tasks are deleted after {facts.keep_days} days.",
        why="A status is promised for longer than its row exists.",
        do=f"RETENTION_DAYS_TASKS={-(-facts.status_hours // 24)}",
    )


def logs(facts: SettingsFacts) -> Outcome:
    if not (facts.is_production and facts.log_level == "DEBUG"):
        return Fine(f"log level {facts.log_level}")
    return warning(
        "LOG_LEVEL is DEBUG in production.",
        why="Logs grow fast, and libraries write more of what they send than is meant for logs.",
        do="LOG_LEVEL=INFO",
    )


CHECKS: Final = (
    Check("spelling", spelling),
    Check("exceptions", exceptions),
    Check("signatures", signing),
    Check("backlog", backlog),
    Check("lease", lease),
    Check("retention", retention),
    Check("logs", logs),
)
VALIDITY: Final = Check("validity", valid)


def checks_for(facts: SettingsFacts) -> Sequence[Check[SettingsFacts]]:
    """With invalid settings only that is a finding: the others are not known."""
    return (VALIDITY,) if facts.problems else (VALIDITY, *CHECKS)
