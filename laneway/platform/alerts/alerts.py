"""Opens an alert when a rule finds a problem, closes it when the problem is gone, and has both told."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

from laneway._printable import printable
from laneway.platform.alerts.conditions import Problem
from laneway.platform.alerts.notices import DueNotices
from laneway.platform.alerts.rules import RULES, AlertRule, Severity
from laneway.platform.alerts.snapshot import Snapshot, Watched
from laneway.platform.db.models import Alert
from laneway.platform.db.queries import alerts as repository
from laneway.platform.errors import BrokerUnavailable, ConfigError, DatabaseUnavailable
from laneway.platform.logging import logger
from laneway.schemas.alert import AlertView

log = logger(__name__)

MAX_SUBJECT: Final = 200
HELD_SECONDS: Final = 1.0
"""A sweep that waited longer than this for its turn to write knows that others could not write either."""


class Alerts:
    """The alerts of a platform."""

    def __init__(self, watched: Watched, rules: Sequence[AlertRule] = RULES) -> None:
        """Raises ConfigError when ALERT_SEVERITIES names an unknown kind."""
        self.watched, self._settings = watched, watched.settings
        given = watched.settings.severities
        if unknown := sorted(given.keys() - {rule.kind for rule in rules}):
            known = ", ".join(rule.kind for rule in rules)
            raise ConfigError(f"ALERT_SEVERITIES: there is no kind of alert {unknown[0]!r}; there are {known}.")
        self.rules = tuple(rule for rule in rules if given.get(rule.kind) != "off")
        self.severities = {rule.kind: Severity(given.get(rule.kind, rule.severity)) for rule in self.rules}
        """Kind → severity. A kind whose rule is gone is severe."""
        self._due = DueNotices(watched.settings, self.rules, self.severities)
        self._stood_still = False

    def sweep(self) -> dict[str, Any]:
        """Look for problems once; return the number of open alerts and what this sweep opened and closed.

        Raises DatabaseUnavailable.
        """
        snapshot = Snapshot(self.watched, database_was_held=self._wait_for_turn())
        found, unknown = self._problems(snapshot)
        with self.watched.tasks.transaction() as unit:
            opened = [
                (kind, subject, message)
                for (kind, subject), message in found.items()
                if repository.open_alert(unit.session, kind, subject=subject, message=message, now=snapshot.now)
            ]
            closed = repository.close_others(unit.session, found.keys(), now=snapshot.now, unknown=unknown)
            self._due.submit(unit, now=snapshot.now)
        for kind, subject, message in opened:
            log.warning("alert opened", kind=kind, subject=subject, message=message)
        for alert in closed:
            log.info("alert closed", kind=alert.kind, subject=alert.subject)
        return {
            "open": len(found),
            "opened": [message for _, _, message in opened],
            "closed": [f"{alert.kind} {alert.subject}" for alert in closed],
        }

    def watch_schedules(self) -> None:
        """Sweep if a schedule stands still, or did so at the last call: the scheduled sweep may not come then.

        Raises BrokerUnavailable, DatabaseUnavailable.
        """
        schedules = self.watched.schedules
        stands_still = bool(schedules and schedules.standstills())
        if stands_still or self._stood_still:
            self.sweep()
        self._stood_still = stands_still

    def listing(self, *, closed: bool = False) -> Sequence[Alert]:
        """Return the open alerts, newest first; with `closed` the closed ones as well."""
        with self.watched.database.reading() as session:
            return repository.listing(session, closed=closed)

    def views(self, *, closed: bool = False) -> list[AlertView]:
        """The same, each with its severity, as responses."""
        return [self._view(alert) for alert in self.listing(closed=closed)]

    def _view(self, alert: Alert) -> AlertView:
        return AlertView(
            id=alert.id,
            kind=alert.kind,
            subject=alert.subject,
            severity=self.severities.get(alert.kind, Severity.SEVERE).value,
            message=alert.message,
            opened_at=alert.opened_at,
            closed_at=alert.closed_at,
            notified_at=alert.notified_at,
        )

    def _problems(self, snapshot: Snapshot) -> tuple[dict[tuple[str, str], str], set[str]]:
        """(Kind, subject) → message, and the kinds of which it is not known whether there are any."""
        found, unknown = dict[tuple[str, str], str](), set[str]()
        for rule in self.rules:
            try:
                problems = rule.condition(snapshot)
                known = None if problems is None else [_as_stored(rule, problem) for problem in problems]
            except DatabaseUnavailable:
                raise
            except BrokerUnavailable:
                known = None
            except Exception:
                log.exception("a rule of alerts failed", rule=rule.kind)
                known = None
            if known is None:
                unknown.add(rule.kind)
            for subject, message in known or ():
                found[rule.kind, subject] = message
        return found, unknown

    def _wait_for_turn(self) -> bool:
        """Wait until this process may write; True if that took so long that another program held the database."""
        began = monotonic()
        with self.watched.database.transaction():
            return monotonic() - began > HELD_SECONDS


def _as_stored(rule: AlertRule, problem: Problem) -> tuple[str, str]:
    """The subject and the message of a problem, as every database can store them."""
    return printable(problem.subject)[:MAX_SUBJECT], printable(rule.message(problem))
