"""The log of outbound webhooks: list deliveries and replay them.

A delivery is a task; the task's id is the `webhook-id`. A replay sends the same delivery again, with the same id and
the same body, as Standard Webhooks demands, so that a receiver can ignore what it has already processed. A replay
therefore restarts the task. If retention has deleted the task or its payload, the log restores them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from laneway.platform.audit_log.audit_log import AuditLog
from laneway.platform.audit_log.recording import recorded_as
from laneway.platform.bulk import BulkResult, apply_to_each
from laneway.platform.db.models import OutboundAttempt, OutboundDelivery
from laneway.platform.db.queries import outbound_webhooks as repository
from laneway.platform.db.queries import task_runs
from laneway.platform.db.queries.outbound_webhooks import DISABLED, DeliveryFilter
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, UnknownTask
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.registry import registry
from laneway.platform.task_manager import TaskManager
from laneway.platform.webhooks.outbound_webhooks import EndpointDisabled
from laneway.platform.webhooks.reserved_events import DELIVERY_ROLE
from laneway.schemas.outbound_webhook import OutboundWebhook
from laneway.schemas.task import FAILURES, FINISHED, TaskHandle, TaskState

log = logger(__name__)

SAMPLES: Final = 5
RECENT: Final = 1_000
"""Deliveries whose events are collected."""


@dataclass(frozen=True, slots=True)
class LoggedDelivery:
    """One delivery with the state of its task."""

    delivery: OutboundDelivery
    state: TaskState
    attempts: Sequence[OutboundAttempt] = ()
    """Empty in lists."""


class DeliveryLog:
    """Lists deliveries and replays them."""

    def __init__(self, database: Database, tasks: TaskManager, recorder: JournalRecorder) -> None:
        self._database, self._tasks, self._recorder = database, tasks, recorder

    def page(self, which: DeliveryFilter, *, before: int | None = None, limit: int = 50) -> list[LoggedDelivery]:
        """Return deliveries, newest first."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            return [LoggedDelivery(*row) for row in repository.page(session, which, before=before, limit=limit)]

    def scan(
        self, which: DeliveryFilter, *, before: int | None = None, limit: int = 50
    ) -> tuple[list[LoggedDelivery], int | None]:
        """As `page`, but in a bounded time for each filter: there may be fewer deliveries, and more may follow.

        It also returns the `before` of the next page; None after the last one.
        """
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            found = repository.scan(session, which, before=before, limit=limit)
            return [LoggedDelivery(*row) for row in found.rows], found.next

    def recent_events(self) -> dict[str, list[str]]:
        """Receiver's id → the events that it got, as far as they are among the newest `RECENT` deliveries."""
        with self._database.reading() as session:
            return repository.recent_events(session, limit=RECENT)

    def show(self, id: str) -> LoggedDelivery:
        """Return one delivery with its attempts. Raises NotFound."""
        self._recorder.catch_up_quietly()
        if "\x00" in id:
            raise NotFound("delivery", id)
        with self._database.reading() as session:
            row = repository.with_state(session, id)
            if row is None:
                raise NotFound("delivery", id)
            return LoggedDelivery(*row, repository.attempts(session, id))

    def replay(self, id: str) -> TaskHandle:
        """Send a delivery again under its id; its retry schedule starts from the beginning.

        Raises NotFound, EndpointDisabled, and WrongState while the delivery is still waiting or running.
        """
        delivery = self.show(id).delivery
        with self._database.reading() as session:
            endpoint = repository.find_endpoint(session, delivery.endpoint_id)
        if endpoint is not None and endpoint.state == DISABLED:
            raise EndpointDisabled(endpoint.id, endpoint.url)
        self._restore_payload(delivery)
        try:
            with recorded_as("delivery.replay"):
                handle = self._tasks.retry(id)
        except UnknownTask:
            AuditLog(self._database).record("delivery.replay", ("task", id))
            handle = self._tasks.submit(registry.by_role(DELIVERY_ROLE), _payload(delivery), id=id)
        log.info("delivery replayed", delivery_id=id, endpoint=delivery.endpoint_id)
        return handle

    def replay_many(
        self, which: DeliveryFilter, *, after: int = 0, limit: int = 100, dry_run: bool = False
    ) -> BulkResult[OutboundDelivery]:
        """Replay at most `limit` deliveries, oldest first: those that failed for good, unless the filter names states.

        Deliveries that are waiting or running are never replayed. Pass the returned `next` as `after` to continue.
        """
        states = tuple(state for state in which.states or FAILURES if state in FINISHED)
        chosen = replace(which, states=states or FAILURES)
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            matched = repository.count(session, chosen, after=after)
            deliveries = repository.oldest(session, chosen, after=after, limit=limit)
        done, refused = apply_to_each(() if dry_run else deliveries, lambda delivery: self.replay(delivery.id))
        return BulkResult(
            matched=matched,
            done=done,
            samples=list(deliveries[:SAMPLES]),
            refused=refused,
            dry_run=dry_run,
            next=deliveries[-1].seq if matched > len(deliveries) else None,
        )

    def _restore_payload(self, delivery: OutboundDelivery) -> None:
        """Give the task back the payload that retention deleted."""
        with self._database.transaction() as session:
            run = task_runs.find(session, delivery.id, lock=True)
            if run is not None and run.state in FINISHED and not run.payload:
                run.payload = _payload(delivery).model_dump(mode="json", exclude_none=True)


def _payload(delivery: OutboundDelivery) -> OutboundWebhook:
    data = json.loads(delivery.body)["data"]
    return OutboundWebhook(url=delivery.url, event=delivery.event, data=data, occurred_at=delivery.occurred_at)
