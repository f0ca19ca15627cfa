"""The log of outbound webhooks: looked through, and sent again.

A delivery is a task; its id is the `webhook-id`. A replay is the same delivery again, with the same id and the same
body, as Standard Webhooks has it: a receiver that has seen it drops it, one that has not takes it in. So a replay
restarts the task; where retention has taken the task, or its payload, the log gives them back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from laneway.platform.db.models import OutboundAttempt, OutboundDelivery
from laneway.platform.db.queries import outbound_webhooks as repository
from laneway.platform.db.queries import task_runs
from laneway.platform.db.queries.outbound_webhooks import DISABLED, DeliveryFilter
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, PlatformError, UnknownTask
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.registry import registry
from laneway.platform.schemas.outbound_webhook import OutboundWebhook
from laneway.platform.schemas.task import FAILURES, FINISHED, TaskHandle, TaskState
from laneway.platform.task_manager import TaskManager
from laneway.platform.webhooks.outbound_webhooks import DELIVERY_ROLE, EndpointDisabled

log = logger(__name__)

SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One delivery; `attempts` is empty in lists."""

    delivery: OutboundDelivery
    state: TaskState
    attempts: Sequence[OutboundAttempt] = ()


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay of many did, or would do. `refused`: id → why not; `next`: `after` of the next call, if any."""

    matched: int
    done: int
    samples: list[str]
    refused: dict[str, str]
    next: int | None
    dry_run: bool


class DeliveryLog:
    """What an operator does with deliveries."""

    def __init__(self, database: Database, tasks: TaskManager, recorder: JournalRecorder) -> None:
        self._database, self._tasks, self._recorder = database, tasks, recorder

    def page(self, which: DeliveryFilter, *, before: int | None = None, limit: int = 50) -> list[Entry]:
        """Some of them, newest first."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            return [Entry(*row) for row in repository.page(session, which, before=before, limit=limit)]

    def show(self, id: str) -> Entry:
        """One of them, with its attempts. Raises NotFound."""
        self._recorder.catch_up_quietly()
        if "\x00" in id:
            raise NotFound("delivery", id)
        with self._database.reading() as session:
            found = repository.with_state(session, id)
            if found is None:
                raise NotFound("delivery", id)
            return Entry(*found, repository.attempts(session, id))

    def replay(self, id: str) -> TaskHandle:
        """Send it again under its id, with a schedule of its own.

        Raises NotFound, EndpointDisabled, and WrongState while it is on its way already.
        """
        delivery = self.show(id).delivery
        with self._database.reading() as session:
            endpoint = repository.find_endpoint(session, delivery.endpoint_id)
        if endpoint is not None and endpoint.state == DISABLED:
            raise EndpointDisabled(endpoint.id, endpoint.url)
        self._refill(delivery)
        try:
            handle = self._tasks.retry(id)
        except UnknownTask:
            handle = self._tasks.submit(registry.by_role(DELIVERY_ROLE), _payload(delivery), id=id)
        log.info("delivery replayed", delivery_id=id, endpoint=delivery.endpoint_id)
        return handle

    def replay_many(self, which: DeliveryFilter, *, after: int = 0, limit: int = 100, dry_run: bool = False) -> Replay:
        """Replay at most `limit` of them, oldest first: those that failed for good unless other states are given.

        What is on its way already is never touched. The next call goes on behind `next`.
        """
        states = tuple(state for state in which.states or FAILURES if state in FINISHED)
        chosen = replace(which, states=states or FAILURES)
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            matched = repository.count(session, chosen, after=after)
            found = repository.oldest(session, chosen, after=after, limit=limit)
        refused: dict[str, str] = {}
        for delivery in () if dry_run else found:
            try:
                self.replay(delivery.id)
            except PlatformError as error:
                refused[delivery.id] = str(error)
        done = 0 if dry_run else len(found) - len(refused)
        following = found[-1].seq if matched > len(found) else None
        return Replay(matched, done, [one.id for one in found[:SAMPLES]], refused, following, dry_run)

    def _refill(self, delivery: OutboundDelivery) -> None:
        """Give its task the payload back that retention took from it."""
        with self._database.transaction() as session:
            run = task_runs.find(session, delivery.id, lock=True)
            if run is not None and run.state in FINISHED and not run.payload:
                run.payload = _payload(delivery).model_dump(mode="json", exclude_none=True)


def _payload(delivery: OutboundDelivery) -> OutboundWebhook:
    data = json.loads(delivery.body)["data"]
    return OutboundWebhook(url=delivery.url, event=delivery.event, data=data, occurred_at=delivery.occurred_at)
