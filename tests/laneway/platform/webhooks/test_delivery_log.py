"""The log of outbound webhooks: filters, states and replays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import delete, update

from laneway.platform import clock
from laneway.platform.db.models import OutboundDelivery, TaskRun
from laneway.platform.db.queries import retention
from laneway.platform.db.queries.outbound_webhooks import DeliveryFilter
from laneway.platform.errors import NotFound, PlatformError, WrongState
from laneway.platform.execution.outcomes import Attempt, Completed, Outcome, Raised
from laneway.platform.registry import registry
from laneway.platform.webhooks.delivery_log import DeliveryLog
from laneway.platform.webhooks.outbound_webhooks import EndpointDisabled
from laneway.schemas.task import TaskState
from tests.fixtures.alerts import alerts_of
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.platform import Platform
from tests.fixtures.receiving import DeliveryHarness, webhook

FAILED = DeliveryFilter(states=(TaskState.FAILED, TaskState.DEAD_LETTER))


class DeliveryLogHarness:
    """Submits deliveries, and runs their tasks as a worker does."""

    def __init__(self, platform: Platform) -> None:
        self.platform, self.harness = platform, DeliveryHarness(platform.database)
        self.log = DeliveryLog(platform.database, platform.tasks, platform.recorder)

    def sent(self, url: str, *, last: bool = False, n: int = 1) -> str:
        """Submit a delivery, make its first attempt, and return its id; `last`: no attempt follows."""
        id = self.platform.tasks.submit("send_webhook_response_task", webhook(url, data={"n": n})).task_id
        self.work(last=last)
        return id

    def work(self, *, last: bool = False) -> None:
        """Make the next attempt of any waiting delivery."""
        attempt = self.platform.start("webhooks")
        number = 8 if last else attempt.number
        attempt.max_retries = 0 if last else 7
        payload = registry["send_webhook_response_task"].payload.model_validate(attempt.payload)
        outcome: Outcome
        try:
            self.harness.outbound_webhooks.deliver(payload, delivery_id=attempt.task_id, attempt=number)  # pyright: ignore
            outcome = Completed({"done": True})
        except PlatformError as error:
            outcome = Raised(error)
        self.end(attempt, outcome)

    def end(self, attempt: Attempt, outcome: Outcome) -> None:
        self.platform.end(attempt, outcome)
        self.platform.recorder.catch_up()

    def ids(self, **which: object) -> list[str]:
        """Return the ids of the listed deliveries, newest first."""
        return [entry.delivery.id for entry in self.log.page(DeliveryFilter(**which))]  # pyright: ignore

    def state(self, id: str) -> TaskState:
        return self.log.show(id).state


def ids_of(deliveries: list[OutboundDelivery]) -> list[str]:
    return [delivery.id for delivery in deliveries]


@pytest.fixture
def log_harness(platform: Platform) -> DeliveryLogHarness:
    return DeliveryLogHarness(platform)


def test_deliveries_are_filtered_by_receiver_event_state_and_time(
    log_harness: DeliveryLogHarness, http_peer: HttpPeer
) -> None:
    http_peer.reply_with(HttpReply(200), HttpReply(500), HttpReply(410))
    done, failing, gone = (log_harness.sent(http_peer.url + path) for path in ("/a", "/a", "/b"))
    first, second = log_harness.harness.endpoints()
    now = clock.now()

    assert log_harness.ids() == [gone, failing, done]
    assert log_harness.ids(endpoint=first.id) == [failing, done]
    assert log_harness.ids(endpoint=second.id, event="order.paid") == [gone]
    assert log_harness.ids(event="other") == []
    assert log_harness.ids(states=(TaskState.COMPLETED,)) == [done]
    assert log_harness.ids(states=(TaskState.SCHEDULED, TaskState.FAILED)) == [gone, failing]
    assert log_harness.ids(since=now) == [] == log_harness.ids(until=now - timedelta(hours=1))
    page = log_harness.log.page(DeliveryFilter(), limit=2)
    assert [one.delivery.id for one in log_harness.log.page(DeliveryFilter(), before=page[-1].delivery.seq)] == [done]


def test_the_state_of_a_delivery_is_that_of_its_task(
    log_harness: DeliveryLogHarness, platform: Platform, http_peer: HttpPeer
) -> None:
    http_peer.reply_with(HttpReply(500))
    id = log_harness.sent(http_peer.url)
    assert log_harness.state(id) is TaskState.SCHEDULED
    platform.tasks.cancel(id)
    assert log_harness.state(id) is TaskState.CANCELLED
    with platform.database.transaction() as session:
        session.execute(delete(TaskRun))

    assert log_harness.state(id) is TaskState.SCHEDULED  # as its attempts left it


def test_a_replay_restarts_the_task_and_sends_the_same_again(
    log_harness: DeliveryLogHarness, platform: Platform, http_peer: HttpPeer
) -> None:
    http_peer.reply_with(HttpReply(500))
    id = log_harness.sent(http_peer.url, last=True)
    assert log_harness.state(id) is TaskState.DEAD_LETTER

    handle = log_harness.log.replay(id)
    assert (handle.task_id, handle.state, log_harness.state(id)) == (id, TaskState.PENDING, TaskState.PENDING)
    log_harness.work()

    first, second = http_peer.requests
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert [one.status for one in log_harness.log.show(id).attempts] == [500, 200]
    assert log_harness.state(id) is TaskState.COMPLETED
    assert [run.id for run in platform.rows()] == [id]


@pytest.mark.parametrize("left", ["the task without its payload", "nothing of the task"])
def test_a_replay_restores_a_task_that_retention_deleted_or_blanked(
    log_harness: DeliveryLogHarness, platform: Platform, http_peer: HttpPeer, left: str
) -> None:
    id = log_harness.sent(http_peer.url)
    with platform.database.transaction() as session:
        session.execute(update(TaskRun).values(finished_at=clock.now() - timedelta(days=3)))
        take = retention.delete_tasks if left == "nothing of the task" else retention.erase_task_contents
        assert take(session, before=clock.now() - timedelta(days=2), limit=10) == 1

    assert log_harness.log.replay(id).task_id == id
    log_harness.work()

    first, second = http_peer.requests
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)


def test_a_waiting_delivery_is_not_replayed(log_harness: DeliveryLogHarness, http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(500))
    id = log_harness.sent(http_peer.url)

    with pytest.raises(WrongState, match="scheduled"):
        log_harness.log.replay(id)
    for unknown in ("none", "a\x00b"):
        with pytest.raises(NotFound):
            log_harness.log.replay(unknown)


def test_deliveries_missed_by_a_disabled_receiver_are_replayed_after_it_is_enabled(
    log_harness: DeliveryLogHarness, http_peer: HttpPeer
) -> None:
    first = log_harness.sent(http_peer.url)
    endpoint = log_harness.harness.endpoint().id
    log_harness.harness.outbound_webhooks.disable(endpoint)
    missed = [log_harness.sent(http_peer.url, n=number) for number in (2, 3)]
    with pytest.raises(EndpointDisabled, match=endpoint) as refused:
        log_harness.log.replay(missed[0])
    assert refused.value.status == 409
    assert list(log_harness.log.replay_many(DeliveryFilter(endpoint=endpoint)).refused) == missed
    log_harness.harness.outbound_webhooks.enable(endpoint)

    plan = log_harness.log.replay_many(DeliveryFilter(endpoint=endpoint), dry_run=True)
    assert (plan.matched, plan.done, ids_of(plan.samples), plan.dry_run) == (2, 0, missed, True)
    done = log_harness.log.replay_many(DeliveryFilter(endpoint=endpoint))
    assert (done.matched, done.done, done.refused, done.next) == (2, 2, {}, None)
    log_harness.work()
    log_harness.work()

    assert [asked.json()["data"]["n"] for asked in http_peer.requests] == [1, 2, 3]
    assert {log_harness.state(id) for id in (first, *missed)} == {TaskState.COMPLETED}


def test_a_replay_of_many_goes_page_by_page_oldest_first(log_harness: DeliveryLogHarness, http_peer: HttpPeer) -> None:
    ids = [log_harness.sent(http_peer.url, n=number) for number in range(3)]
    which = DeliveryFilter(states=(TaskState.COMPLETED, TaskState.PROCESSING), since=clock.now() - timedelta(hours=1))
    first = log_harness.log.replay_many(which, limit=2)
    assert (first.matched, first.done, ids_of(first.samples)) == (3, 2, ids[:2])
    assert first.next is not None
    second = log_harness.log.replay_many(which, after=first.next, limit=2)

    assert (second.matched, second.done, ids_of(second.samples), second.next) == (1, 1, ids[2:], None)
    assert log_harness.log.replay_many(which).matched == 0  # all of them are on their way


def test_without_states_only_deliveries_that_failed_for_good_are_replayed(
    log_harness: DeliveryLogHarness, http_peer: HttpPeer
) -> None:
    http_peer.reply_with(HttpReply(200), HttpReply(500), HttpReply(500))
    done, failing, dead = (log_harness.sent(http_peer.url, last=last) for last in (False, False, True))
    replayed = log_harness.log.replay_many(DeliveryFilter())

    assert ids_of(replayed.samples) == [dead]
    assert [log_harness.state(id) for id in (done, failing, dead)] == [
        TaskState.COMPLETED,
        TaskState.SCHEDULED,
        TaskState.PENDING,
    ]


def test_the_alert_of_a_disabled_receiver_stays_open_until_the_receiver_is_deleted(
    log_harness: DeliveryLogHarness, platform: Platform, http_peer: HttpPeer
) -> None:
    alerts = alerts_of(platform, severities={"new_errors": "off"})
    http_peer.reply_with(HttpReply(410))
    log_harness.sent(http_peer.url)
    endpoint = log_harness.harness.endpoint()
    assert alerts.sweep()["opened"] == []
    (alert,) = alerts.listing()
    assert (alert.kind, alert.subject) == ("endpoint_disabled", endpoint.id)
    assert alert.message == (
        f"no more webhooks go to {http_peer.url}/: it answered 410 Gone (`laneway callbacks enable {endpoint.id}`)"
    )
    with platform.database.transaction() as session:
        assert retention.delete_endpoints(session, before=clock.now(), limit=10) == 1

    assert alerts.sweep()["closed"] == [f"endpoint_disabled {endpoint.id}"]


def test_old_deliveries_are_deleted_and_receivers_disabled_by_an_operator_stay(
    log_harness: DeliveryLogHarness, platform: Platform, http_peer: HttpPeer
) -> None:
    old, new = log_harness.sent(http_peer.url + "/old"), log_harness.sent(http_peer.url + "/new")
    endpoint = log_harness.harness.endpoints()[0].id
    log_harness.harness.outbound_webhooks.disable(endpoint)
    ago = clock.now() - timedelta(days=40)
    with platform.database.transaction() as session:
        session.execute(update(OutboundDelivery).where(OutboundDelivery.id == old).values(touched_at=ago))
        assert retention.delete_outbound_deliveries(session, before=clock.now() - timedelta(days=30), limit=10) == 1
        assert retention.delete_endpoints(session, before=clock.now() + timedelta(days=1), limit=10) == 1

    assert log_harness.ids() == [new]
    assert log_harness.harness.attempts(old) == []
    assert [one.id for one in log_harness.harness.endpoints()] == [endpoint]
