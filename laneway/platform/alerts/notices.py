"""Notices: which alerts are to be told now, and the text that tells them.

An alert is told when it opens, reminded of while it stays open, and its end is told. Each of the three is submitted in
the transaction that marks the alert as told, as one task for each receiver. So a notice is neither lost nor submitted
twice, and a receiver that is away does not delay the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from laneway._printable import one_line
from laneway.platform.alerts.rules import AlertRule, Severity
from laneway.platform.db.models import Alert
from laneway.platform.db.queries import alerts as repository
from laneway.platform.registry import registry
from laneway.platform.settings import AlertSettings
from laneway.platform.submission.transaction import SubmissionTransaction
from laneway.schemas.alert import AlertNotice

NOTICE_ROLE: Final = "notices about alerts"
"""The role of the task that tells a receiver about alerts."""
TELL_EVERY: Final = timedelta(hours=1)
"""That the same problem has begun is told at most once in this time."""
MAX_TITLE: Final = 150
MAX_LINE: Final = 1000
"""Characters of one alert in a notice."""

NoticeKind = Literal["failure", "warning", "success", "info"]
"""What Apprise calls a notice's type: many receivers show it as a colour."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A text for receivers."""

    title: str
    body: str
    kind: NoticeKind


class DueNotices:
    """Decides what is to be told now, and submits it."""

    def __init__(self, settings: AlertSettings, rules: Sequence[AlertRule], severities: Mapping[str, Severity]) -> None:
        self._settings, self._quiet = settings, settings.quiet
        self._low = {kind for kind, severity in severities.items() if severity is Severity.LOW}
        self._events = {rule.kind for rule in rules if not rule.lasts}

    def submit(self, unit: SubmissionTransaction, *, now: datetime) -> None:
        """Submit what is to be told, one task for each receiver, and mark the alerts as told."""
        if not self._settings.receivers:
            return
        session, held = unit.session, self._held(now)
        opened = repository.untold(
            session,
            told_since=now - TELL_EVERY,
            quiet=self._quiet.last(now) if self._quiet else None,
            held=held,
        )
        reminded = self._to_remind_of(unit, now=now, held=held)
        ended = repository.ended(session, now=now, held=held | self._events)
        for alert in (*opened, *reminded):
            alert.notified_at = now
        for alert in (*ended, *(alert for alert in opened if alert.closed_at is not None)):
            alert.end_notified_at = now
        ids = {"opened": _ids(opened), "reminded": _ids(reminded), "ended": _ids(ended)}
        if not any(ids.values()):
            return
        task = registry.by_role(NOTICE_ROLE)
        for receiver in self._settings.receivers:
            unit.submit(task, AlertNotice(receiver=receiver, at=now, **ids))

    def _held(self, now: datetime) -> set[str]:
        """The kinds that are not told now."""
        return self._low if self._quiet and self._quiet.current(now) else set()

    def _to_remind_of(self, unit: SubmissionTransaction, *, now: datetime, held: set[str]) -> list[Alert]:
        if not self._settings.remind_hours:
            return []
        before = now - timedelta(hours=self._settings.remind_hours)
        return repository.to_remind_of(unit.session, told_before=before, held=held | self._events)


def compose(
    opened: Sequence[Alert], reminded: Sequence[Alert], ended: Sequence[Alert], *, severe: bool, address: str | None
) -> Notice:
    """The text about these alerts in their present state.

    `severe`: whether one of the first two lists has a severe alert. `address`: of the platform, if it has a public one.
    """
    parts = [("New", opened), ("Still open", reminded), ("Over", ended)]
    told = [(heading, alerts) for heading, alerts in parts if alerts]
    heading, first = told[0][0], told[0][1][0]
    number = sum(len(alerts) for _, alerts in told)
    start = {"New": "Alert", "Still open": "Still open", "Over": "Over"}[heading]
    more = f" (and {number - 1} more)" if number > 1 else ""
    lines = [line for heading, alerts in told for line in (f"{heading}:", *map(_line, alerts), "")]
    lines.append(
        f"All open alerts: {address}/console, `laneway alerts list`" if address else "All: `laneway alerts list`"
    )
    return Notice(
        f"{start}: {one_line(first.message)[:MAX_TITLE]}{more}",
        "\n".join(lines) + "\n",
        "success" if heading == "Over" else "failure" if severe else "warning",
    )


def _line(alert: Alert) -> str:
    over = f" (over since {_time(alert.closed_at)})" if alert.closed_at else ""
    return f"- {_time(alert.opened_at)}  {one_line(alert.message)[:MAX_LINE]}{over}"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _ids(alerts: Sequence[Alert]) -> list[int]:
    return [alert.id for alert in alerts]
