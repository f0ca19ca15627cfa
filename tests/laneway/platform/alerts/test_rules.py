"""The table of rules, and each rule on a platform that has its problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import update
from structlog.testing import capture_logs

from laneway.platform import clock
from laneway.platform.alerts import alerts as alerts_module
from laneway.platform.alerts.alerts import Alerts
from laneway.platform.alerts.conditions import Problem
from laneway.platform.alerts.rules import RULES, AlertRule, Severity
from laneway.platform.alerts.snapshot import Snapshot
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import alerts as repository
from laneway.platform.db.queries import workers
from laneway.platform.errors import ConfigError
from laneway.platform.execution.outcomes import Raised
from laneway.platform.logging import logger
from laneway.platform.settings import AlertSettings
from laneway.schemas.task import TaskState
from tests.fixtures.alerts import alerts_of, serve
from tests.fixtures.held_database import held_by_another_program
from tests.fixtures.platform import MovableClock, Platform


def opened(alerts: Alerts) -> dict[str, str]:
    """Kind → message of each open alert, after a sweep."""
    alerts.sweep()
    return {alert.kind: alert.message for alert in alerts.listing()}


def fail(platform: Platform, error: Exception) -> None:
    platform.chore()
    assert platform.work("maintenance", Raised(error))


def test_every_threshold_is_a_setting_and_every_kind_has_one_rule() -> None:
    names = {field.alias for field in AlertSettings.model_fields.values()}

    assert {rule.threshold for rule in RULES} - {None} <= names
    assert len({rule.kind for rule in RULES}) == len(RULES)
    assert all(len(rule.kind) <= 32 for rule in RULES)


def test_a_message_says_what_is_wrong_and_what_to_do() -> None:
    rule = next(rule for rule in RULES if rule.kind == "no_worker")

    assert (
        rule.message(Problem("{mail}", "It is wrong"))
        == "It is wrong. Start a worker: `laneway worker --queue {mail}`."
    )


def test_a_new_group_of_errors_is_an_alert_once(platform: Platform) -> None:
    alerts = alerts_of(platform)
    fail(platform, ValueError("of the customer Ada"))
    fail(platform, ValueError("of the customer Ada"))
    message = opened(alerts)["new_errors"]
    assert message.startswith("cleanup_old_data_task failed 2 times in a way that is new: ValueError (group ")
    assert "laneway dead show ID" in message and "customer" not in message

    with platform.database.transaction() as session:  # the engine's clock, which says when a task ended, is not moved
        session.execute(update(TaskRun).values(finished_at=clock.now() - timedelta(hours=2)))
    assert "new_errors" not in opened(alerts)
    fail(platform, ValueError("of the customer Ada"))
    assert "new_errors" not in opened(alerts), "this group is known"
    fail(platform, TypeError("another one"))
    assert "TypeError" in opened(alerts)["new_errors"]


def test_a_task_that_waits_for_long_is_an_alert(platform: Platform, movable_clock: MovableClock) -> None:
    alerts = alerts_of(platform, oldest_seconds=600)
    id = platform.chore(delay=3000)
    movable_clock.forward(3500)
    assert "oldest" not in opened(alerts), "it was due 500 s ago"
    movable_clock.forward(200)

    message = opened(alerts)["oldest"]
    assert message.startswith("the oldest task in the queue 'maintenance' has waited for 12 minutes (ALERT_OLDEST_")
    assert "laneway status ID" in message
    platform.tasks.cancel(id)
    assert "oldest" not in opened(alerts)


def test_growing_dead_letters_are_an_alert(platform: Platform) -> None:
    alerts = alerts_of(platform, dead_letters=2)
    platform.brought_to(TaskState.DEAD_LETTER)
    assert opened(alerts_of(platform, dead_letters=1))["dead_letters"].startswith("1 dead letter came in the queue")
    assert "dead_letters" not in opened(alerts)
    platform.brought_to(TaskState.FAILED)
    assert "dead_letters" not in opened(alerts), "it failed, and is no dead letter"
    platform.brought_to(TaskState.DEAD_LETTER, conversation="c-2")

    assert opened(alerts)["dead_letters"].startswith("2 dead letters came in the queue 'conversations' within an hour")


def test_events_that_are_not_recorded_are_an_alert(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    alerts = alerts_of(platform, unread_events=2)
    platform.recorder.leave_to_others()  # nobody records them
    platform.chore()
    assert opened(alerts_of(platform, unread_events=1))["recorder"].startswith(
        "1 event of the queue 'maintenance' is not"
    )
    platform.chore()

    assert opened(alerts)["recorder"].startswith("2 events of the queue 'maintenance' are not in the database yet")


def test_an_accepted_task_that_is_not_sent_is_an_alert(platform: Platform, movable_clock: MovableClock) -> None:
    alerts = alerts_of(platform, outbox_seconds=60)
    platform.valkey.stop()
    try:
        platform.chore()
        assert "outbox" not in opened(alerts)
        movable_clock.forward(90)
        message = opened(alerts)["outbox"]
    finally:
        platform.valkey.start()

    assert message.startswith("1 accepted task is not in the queue 'maintenance' yet, the oldest for 9")


def test_a_broker_whose_memory_is_nearly_full_is_an_alert(platform: Platform) -> None:
    alerts = alerts_of(platform)
    client: Any = Redis.from_url(platform.valkey.url(0))
    client.config_set("maxmemory", round(int(client.info("memory")["used_memory"]) * 1.2))
    try:
        message = opened(alerts)["broker_memory"]
    finally:
        client.config_set("maxmemory", 0)
        client.close()

    assert message.startswith("the broker uses ") and "BROKER_MAX_MEMORY" in message
    assert "broker_memory" not in opened(alerts)


def test_a_disk_with_little_space_is_an_alert_of_its_machine_whoever_looks(
    platform: Platform, tmp_path: Path, movable_clock: MovableClock
) -> None:
    platform.maintenance("w@here", data_folder=tmp_path).report()
    platform.maintenance("w@nowhere", data_folder=tmp_path / "none").report()
    for name, free in (("a", 4.5), ("b", 50), ("c", 2)):
        report_disk(platform, name, host="other" if name < "c" else "third", free=free)
    assert disks(alerts_of(platform, disk_free=0)) == {}
    found = disks(alerts_of(platform, disk_free=99.999))

    assert found.keys() == {gethostname(), "other", "third"}
    assert found["other"].startswith("the disk of DATA_DIR on other has 4.5 % free (ALERT_DISK_FREE_PERCENT is 99.999)")
    assert "Delete or move other files on that disk, or enlarge it." in found["other"]
    assert disks(alerts_of(platform, disk_free=3)).keys() == {"third"}, "any machine closes what is over"
    for seconds in (15, 10):
        movable_clock.forward(seconds)
        report_disk(platform, "a", host="other", free=1)
    assert disks(alerts_of(platform, disk_free=3)).keys() == {"other"}, "nobody lives on the third one"


def test_a_sweep_that_had_to_wait_says_nothing_about_disks(platform: Platform) -> None:
    report_disk(platform, "a", host="other", free=1)
    watched = alerts_of(platform).watched
    rule = next(rule for rule in RULES if rule.kind == "disk")

    assert rule.condition(Snapshot(watched, database_was_held=True)) is None
    assert rule.condition(Snapshot(watched)) != []


def report_disk(platform: Platform, name: str, *, host: str, free: float) -> None:
    """Store the report of a worker on another machine."""
    now = clock.now()
    with platform.database.transaction() as session:
        workers.report(session, name, id=name, queues=[], started_at=now, now=now, host=host, disk_free=free)


def disks(alerts: Alerts) -> dict[str, str]:
    """Machine → message of its open alert, after a sweep."""
    alerts.sweep()
    return {alert.subject: alert.message for alert in alerts.listing() if alert.kind == "disk"}


def test_while_the_broker_is_away_its_alerts_stay_as_they_are(platform: Platform) -> None:
    known = [True]

    def found(_: Snapshot) -> list[Problem]:
        if not known[0]:
            platform.broker.ping()
        return [Problem("x", "it is full")]

    rules = [rule if rule.kind != "broker_memory" else _with(rule, found) for rule in RULES]
    alerts = Alerts(alerts_of(platform).watched, rules)
    assert "broker_memory" in opened(alerts)
    known[0] = False
    platform.valkey.stop()
    try:
        assert "broker_memory" in opened(alerts)
    finally:
        platform.valkey.start()


def test_a_rule_that_fails_is_logged_and_its_alerts_stay_as_they_are(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    works, hostile = [True], "\x00" + "x" * 300
    monkeypatch.setattr(alerts_module, "log", logger("test"))

    def found(_: Snapshot) -> Iterator[Problem]:
        yield Problem(hostile, f"{hostile} is wrong")
        assert works[0], "a fault of the application"

    own = AlertRule(kind="k" * 32, severity=Severity.LOW, condition=found)
    alerts = Alerts(alerts_of(platform).watched, (own, *RULES))
    platform.chore()
    assert opened(alerts).keys() == {own.kind, "no_worker"}
    works[0] = False
    with platform.database.transaction() as session:
        for alert in repository.all_open(session):
            assert len(alert.subject) <= 200
        repository.close_alert(session, "no_worker", subject="maintenance", now=clock.now())
    with capture_logs() as lines:
        assert opened(alerts).keys() == {own.kind, "no_worker"}
    assert [line["rule"] for line in lines if line["event"] == "a rule of alerts failed"] == [own.kind]


def test_a_kind_that_is_too_long_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="at most 32 characters: 'kkkk"):
        AlertRule(kind="k" * 33, severity=Severity.LOW, condition=lambda _: None)


def _with(rule: Any, condition: Callable[[Snapshot], list[Problem]]) -> Any:
    from dataclasses import replace

    return replace(rule, condition=condition)


def test_a_severity_of_an_unknown_kind_is_named(platform: Platform) -> None:
    with pytest.raises(ConfigError, match="there is no kind of alert 'failure'; there are failures, new_errors"):
        alerts_of(platform, severities={"failure": "severe"})


def test_a_rule_that_is_off_closes_its_alerts(platform: Platform) -> None:
    platform.chore()
    assert "no_worker" in opened(alerts_of(platform))
    assert "no_worker" not in opened(alerts_of(platform, severities={"no_worker": "off"}))


@pytest.mark.parametrize("platform_database", ["sqlite"], indirect=True)
def test_a_database_that_somebody_held_opens_no_alert_about_workers(
    platform: Platform, movable_clock: MovableClock
) -> None:
    """Nobody could report while it was held: workers are not taken for dead after it."""
    platform.chore()
    first, second = platform.maintenance("first@here"), platform.maintenance("second@here", queues=("crm",))
    first.report(), second.report()
    with held_by_another_program(platform.database):
        movable_clock.forward(60)
    second.report()

    assert "no_worker" not in opened(alerts_of(platform))
    movable_clock.forward(15)
    second.report()
    movable_clock.forward(10)
    second.report()
    assert "no_worker" in opened(alerts_of(platform)), "the first one has not reported since"


def test_a_sweep_that_had_to_wait_says_nothing_about_workers(platform: Platform) -> None:
    platform.chore()
    watched = alerts_of(platform).watched
    rule = next(rule for rule in RULES if rule.kind == "no_worker")

    assert rule.condition(Snapshot(watched, database_was_held=True)) is None
    assert rule.condition(Snapshot(watched)) != []


def test_workers_that_died_before_a_new_one_started_stay_dead(platform: Platform, movable_clock: MovableClock) -> None:
    platform.maintenance("w@here").report()
    movable_clock.forward(60)
    platform.maintenance("w@here").report()

    with platform.database.reading() as session:
        assert workers.shared_names(session, now=clock.now()) == {}
        assert len(workers.alive(session, now=clock.now() + timedelta(seconds=1))) == 1


def test_a_worker_that_serves_is_no_alert(platform: Platform) -> None:
    serve(platform, "maintenance")
    platform.chore()
    assert opened(alerts_of(platform)) == {}
