"""Stored deliveries become events, each with its task or with the reason why it has none; nothing runs twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from app.db.models import WebhookDelivery, WebhookEvent
from app.db.queries import webhooks as repository
from app.schemas.webhook_event import EventSelection, EventState
from app.services.container import Services
from app.services.webhooks.events import WebhookEvents
from app.services.webhooks.mapping.current import CurrentMapping
from laneway.platform import clock
from laneway.platform.db.models import Alert, TaskRun
from laneway.platform.errors import NotFound
from tests.app.services.webhooks.test_mapping import MESSAGE_RULE, order

TASK = "process_conversation_message_task"


class Desk:
    """Stores deliveries, processes them by a mapping of its own, and reads what they left."""

    def __init__(self, services: Services, file: Path) -> None:
        self.services, self.file = services, file
        file.write_text(MESSAGE_RULE)
        self.events = self.restarted()

    def restarted(self, file: Path | None = None) -> WebhookEvents:
        """The service as another process makes it."""
        database = self.services.database
        return WebhookEvents(database, self.services.tasks, CurrentMapping(database, file or self.file))

    def deliver(self, body: Any, *, id: str = "d1", source: str = "shop") -> dict[str, Any]:
        """Store a delivery and process it, as its task does."""
        with self.services.database.transaction() as session:
            repository.store(session, id, source=source, body=body, now=clock.now())
        return self.events.process(id)

    def rows(self) -> list[WebhookEvent]:
        with self.services.database.reading() as session:
            return list(session.scalars(select(WebhookEvent).order_by(WebhookEvent.id)))

    def row(self) -> WebhookEvent:
        (row,) = self.rows()
        return row

    def tasks(self) -> int:
        """The number of follow-up tasks."""
        with self.services.database.reading() as session:
            chosen = select(func.count()).select_from(TaskRun).where(TaskRun.name == TASK)
            return session.scalar(chosen) or 0

    def forget(self) -> None:
        """Delete events and deliveries, as their retention does after a month."""
        with self.services.database.transaction() as session:
            session.execute(delete(WebhookEvent))
            session.execute(delete(WebhookDelivery))


@pytest.fixture
def desk(services: Services, tmp_path: Path) -> Desk:
    return Desk(services, tmp_path / "mapping.yaml")


def test_an_event_gets_its_task_once_however_often_it_is_delivered_and_replayed(desk: Desk) -> None:
    first = desk.deliver(order())
    again = desk.events.process("d1")
    in_another = desk.deliver(order(more=1), id="d2")
    replayed = desk.events.replay(desk.row().id)

    row = desk.row()
    assert (row.state, row.rule, first["tasks"]) == (EventState.HANDLED, "orders", [row.task_id])
    assert again["tasks"] == in_another["tasks"] == []
    assert replayed.states == {EventState.HANDLED: 1}
    assert desk.tasks() == 1


def test_an_event_that_nobody_handles_is_kept_counted_and_handled_after_a_rule_was_added(desk: Desk) -> None:
    result = desk.deliver(order(type="order.refunded") | {"type": "refund.made"})

    assert (result["unhandled"], result["quarantined"], result["tasks"]) == (1, 0, [])
    assert desk.row().state == EventState.UNHANDLED
    (figure,) = desk.events.statistics().by_name
    assert (figure.source, figure.name, figure.state, figure.count) == ("shop", "refund.made", "unhandled", 1)

    desk.file.write_text(MESSAGE_RULE.replace("order.*", "[order.*, refund.made]"))
    replayed = desk.events.replay_many(EventSelection())

    assert (replayed.matched, replayed.states, replayed.next) == (1, {EventState.HANDLED: 1}, None)
    assert desk.tasks() == 1
    assert desk.events.replay_many(EventSelection()).matched == 0


def test_a_misfit_is_in_quarantine_until_the_mapping_is_mended_and_replayed(desk: Desk) -> None:
    desk.deliver(order(order=None, number="A-1"))
    row = desk.row()
    assert (row.state, row.rule, row.task_id) == (EventState.QUARANTINED, "orders", None)
    assert row.reason == "it does not fit the rule 'orders': the event has no body.order."

    still = desk.events.replay(row.id)
    assert still.states == {EventState.QUARANTINED: 1}

    desk.file.write_text(MESSAGE_RULE.replace("body.order}", "body.number}"))
    for _ in range(2):
        assert desk.events.replay(row.id).states == {EventState.HANDLED: 1}
    assert desk.events.process("d1")["tasks"] == []
    assert (desk.row().reason, desk.tasks()) == (None, 1)


def test_a_changed_payload_template_never_runs_an_event_again(desk: Desk) -> None:
    desk.deliver(order())
    desk.file.write_text(MESSAGE_RULE.replace("Order $", "Bestellung $").replace("name: orders", "name: other"))

    desk.events.process("d1")
    desk.events.replay(desk.row().id)

    assert (desk.row().rule, desk.tasks()) == ("orders", 1)


def test_an_event_that_comes_again_after_its_row_was_deleted_keeps_its_task(desk: Desk) -> None:
    desk.deliver(order())
    task = desk.row().task_id
    desk.forget()
    desk.file.write_text(MESSAGE_RULE.replace("Order $", "Bestellung $"))
    result = desk.deliver(order())

    assert (result["tasks"], desk.row().task_id, desk.tasks()) == ([], task, 1)


def test_a_broken_mapping_stops_nothing(desk: Desk) -> None:
    desk.deliver(order())
    desk.file.write_text("rules: [")
    desk.deliver(order(id="e2"), id="d2")
    desk.events = desk.restarted()
    desk.deliver(order(id="e3"), id="d3")

    assert [row.state for row in desk.rows()] == [EventState.HANDLED] * 3
    view = desk.events.mapping()
    assert (view.valid, view.in_force, [rule.name for rule in view.rules]) == (False, True, ["orders"])
    assert "line 1: it is not YAML" in (view.problem or "")


def test_what_cannot_be_read_is_kept_and_fails_nothing(desk: Desk) -> None:
    result = desk.deliver([order(customer="Ada"), 7, order(id="e3")])

    assert (result["events"], result["quarantined"], len(result["tasks"])) == (3, 2, 1)
    assert "customer" in result["problems"][0]
    odd, unreadable, _ = desk.rows()
    assert odd.problems[0].startswith("customer: ")
    assert unreadable.reason == "it cannot be read: it is not an object"
    assert desk.events.show(unreadable.id).body == {"value": 7}
    assert desk.deliver({"object": "user"}, id="d2", source="facebook")["quarantined"] == 1


def test_a_test_event_is_recorded_and_leads_to_nothing(desk: Desk) -> None:
    desk.deliver(order(test="yes"))

    assert (desk.row().state, desk.tasks()) == (EventState.TEST, 0)
    assert desk.events.replay_many(EventSelection()).matched == 0


def test_a_payload_beyond_the_limit_goes_to_quarantine(desk: Desk) -> None:
    rule = "rules: [{name: r, task: process_manipulator_interaction_task, payload: {conversation_id: c, kind: other, channel: api, event_id: e, details: '${body}'}}]"  # noqa: E501
    desk.file.write_text(rule)
    desk.deliver(order(blob="x" * 1_100_000))

    assert "bytes of JSON" in (desk.row().reason or "")


def test_processes_that_decide_at_once_by_different_mappings_submit_one_task(desk: Desk, tmp_path: Path) -> None:
    desk.file.write_text("rules: []")
    desk.deliver([order(id=f"e{number}") for number in range(5)])
    desk.file.write_text(MESSAGE_RULE)
    other = tmp_path / "other.yaml"
    other.write_text(MESSAGE_RULE.replace("name: orders", "name: renamed"))
    mended, renamed = desk.restarted(), desk.restarted(other)

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(one.process, "d1") for one in (mended, renamed, mended, renamed)]
        assert [one.result(60)["events"] for one in done] == [5] * 4

    assert [row.state for row in desk.rows()] == [EventState.HANDLED] * 5
    assert desk.tasks() == 5


def test_a_discarded_event_stays_so_until_it_is_replayed_by_its_number(desk: Desk) -> None:
    desk.deliver([order(order=None), order(id="e2")])
    quarantined, handled = desk.rows()

    assert desk.events.discard_many(EventSelection(source="shop")).states == {EventState.DISCARDED: 1}
    assert desk.events.discard(handled.id).states == {EventState.HANDLED: 1}
    desk.events.process("d1")
    assert desk.events.replay_many(EventSelection()).matched == 0
    assert [row.state for row in desk.rows()] == [EventState.DISCARDED, EventState.HANDLED]
    assert problems(desk) == []

    desk.file.write_text(MESSAGE_RULE.replace("body.order}", "event.id}"))
    assert desk.events.replay(quarantined.id).states == {EventState.HANDLED: 1}


def test_a_replay_of_many_goes_on_where_it_stopped(desk: Desk) -> None:
    desk.deliver([order(id=f"e{number}", order=None) for number in range(5)])
    first = desk.events.replay_many(EventSelection(limit=2, source="shop", rule="orders"))
    second = desk.events.replay_many(EventSelection(limit=3, after=first.next or 0))

    assert (first.matched, first.changed) == (5, 2)
    assert (second.matched, second.changed, second.next) == (3, 3, None)
    assert desk.events.replay_many(EventSelection(name="nope")).changed == 0


def test_an_event_that_is_read_differently_now_is_replaced_by_what_is_read(desk: Desk) -> None:
    desk.deliver(order())
    stale = desk.row()
    with desk.services.database.transaction() as session:  # as an earlier version did
        repository.add_event(
            session,
            source="shop",
            event_id="unreadable:of-an-earlier-version",
            name="",
            kind="other",
            delivery_id="d1",
            data={},
            problems=[],
            state=EventState.QUARANTINED,
            reason="it cannot be read",
            rule=None,
            created_at=clock.now() - timedelta(days=1),
        )
    desk.events.replay_many(EventSelection())

    assert [row.id for row in desk.rows()] == [stale.id]
    assert desk.tasks() == 1


def problems(desk: Desk) -> list[tuple[str, str]]:
    """The kind and the subject of each problem that the application's rules find, and its message."""
    snapshot: Any = None  # they look at the application alone
    return [
        (f"{rule.kind} {problem.subject}", rule.message(problem))
        for rule in desk.events.alert_rules
        for problem in rule.condition(snapshot) or ()
    ]


def test_a_broken_mapping_and_a_quarantine_are_alerts_and_unhandled_events_are_none(desk: Desk) -> None:
    desk.deliver([order(), {"id": "e2", "type": "stock.low"}])
    assert problems(desk) == []

    desk.deliver([order(id="e3", order=None)], id="d2")
    assert problems(desk)[0][1].startswith("1 event of the webhook source 'shop' is in quarantine. See why: ")
    desk.deliver([7], id="d3")
    desk.file.write_text("rules: [")

    (quarantine, text), (mapping, _) = problems(desk)
    assert (quarantine, mapping) == ("webhook_quarantine shop", "webhook_mapping mapping")
    assert text.startswith("2 events of the webhook source 'shop' are in quarantine. See why: ")
    assert "webhook_quarantine shop" not in str(desk.services.alerts.sweep()["closed"])
    with desk.services.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Alert).where(Alert.kind == "webhook_quarantine")) == 1


def test_unknown_events_and_deliveries_are_clear_errors(desk: Desk) -> None:
    with pytest.raises(NotFound, match="webhook event"):
        desk.events.replay(99)
    with pytest.raises(NotFound, match="webhook event"):
        desk.events.show(99)
    with pytest.raises(NotFound, match="webhook delivery"):
        desk.events.process("nope")
