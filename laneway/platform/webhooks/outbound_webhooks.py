"""Outbound webhooks: what an attempt at a delivery does, and what becomes of its receiver.

1. `open`, one transaction: the receiver (endpoint) and the delivery are written down, and the attempt is begun; or it
   is refused, because the endpoint is disabled, or has as many deliveries in flight as it may.
2. The POST.
3. `close`, one transaction: what came of it goes into the log and decides about the endpoint.

A crash between 1 and 3: the task is delivered again and POSTs again under the same `webhook-id`, so that a receiver may
get a webhook twice and can tell (at least once). The attempt that nobody heard of again is shown as lost.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.db.models import OutboundAttempt, OutboundDelivery, OutboundEndpoint
from laneway.platform.db.queries import alerts, task_runs
from laneway.platform.db.queries import outbound_webhooks as repository
from laneway.platform.db.queries.task_events import storable
from laneway.platform.db.session import Database
from laneway.platform.errors import (
    NotFound,
    PermanentError,
    PlatformError,
    RetryableError,
    TaskCancelled,
    UpstreamError,
)
from laneway.platform.execution.outcomes import ERROR_LIMIT
from laneway.platform.logging import logger
from laneway.platform.schemas.outbound_webhook import OutboundWebhook, Receipt
from laneway.platform.schemas.task import TaskState
from laneway.platform.settings import OutboundSettings
from laneway.platform.webhooks import egress
from laneway.platform.webhooks.endpoint_rules import ALERT, GONE, Rules, complaint, disable, enable, failed, succeeded
from laneway.platform.webhooks.sender import OUTBOUND_SCHEDULE, EndpointGone, Sender, body_of, judge

log = logger(__name__)

DELIVERY_ROLE: Final = "delivering outbound webhooks"
ANSWER_KEPT: Final = 1024
"""Bytes of an answer that are kept in the log."""
ATTEMPTS_KEPT: Final = 100
"""The newest attempts of one delivery that are kept, replays included."""
SHOWN: Final = 500
"""Characters of an endpoint's address that are shown."""
LOST_AFTER: Final = 30.0
"""Seconds beyond the timeout of a POST after which an attempt without an end no longer counts as in flight."""
LONGEST_PUT_OFF: Final = 300.0
BLAMED: Final = (UpstreamError, egress.ForbiddenAddress, EndpointGone)
"""What counts against the endpoint; anything else is ours."""
LOST: Final = "Nobody said what came of it: its worker died, or the database was away."


class EndpointDisabled(PermanentError):
    """Nothing is sent to this receiver any more; the delivery can be replayed when it is enabled again."""

    status, title = 409, "Endpoint disabled"

    template = "{url} is disabled; nothing is sent there until somebody enables endpoint {id}."
    id: str
    url: str


class EndpointBusy(RetryableError):
    """The receiver has as many deliveries in flight as it may; no failure, `delay` seconds later is early enough."""

    title = "Endpoint busy"

    template = "{url} is busy with other deliveries"
    url: str
    delay: float

    @property
    def retry_after(self) -> float:
        return self.delay


@dataclass(frozen=True, slots=True)
class Opened:
    """An attempt that has begun. `number`: in the log; `attempt`: in this run of the task, from 1."""

    delivery_id: str
    endpoint_id: str
    number: int
    attempt: int
    body: str


class OutboundWebhooks:
    """Delivers outbound webhooks, and keeps what is known of their receivers. `slots`: tasks at once in a worker."""

    def __init__(self, database: Database, settings: OutboundSettings, *, slots: int) -> None:
        self._database, self._sender = database, Sender(settings)
        self._rules = Rules(
            disable_after=timedelta(days=settings.disable_after_days),
            in_flight=settings.max_in_flight or max(1, slots - 1),
        )
        self._lost_after = timedelta(seconds=settings.timeout + LOST_AFTER)

    def deliver(self, webhook: OutboundWebhook, *, delivery_id: str, attempt: int) -> Receipt:
        """Make one attempt, the `attempt`-th (from 1); `delivery_id` stays the same for all of them.

        Raises EndpointBusy and DatabaseUnavailable before anything is sent (to be tried again, uncounted);
        EndpointDisabled, EndpointGone and ForbiddenAddress (permanent), UpstreamError (to be tried again),
        NotConfigured without OUTBOUND_WEBHOOK_SECRET, and InvalidPayload for what cannot be sent.
        """
        self._sender.check(delivery_id)
        url = egress.shown(webhook.url)
        opened = self._open(webhook, delivery_id, attempt)
        answer = None
        try:
            answer = self._sender.post(webhook.url, opened.body, delivery_id=delivery_id)
            judge(answer, url, attempt=attempt)
        except BaseException as error:
            self._close(opened, answer, error)
            raise
        self._close(opened, answer, None)
        return Receipt(
            delivery_id=delivery_id,
            event=webhook.event,
            status=answer.status,
            url=url,
            attempt=attempt,
            duration_ms=answer.duration_ms,
        )

    def endpoints(
        self, *, state: str | None = None, url: str | None = None, limit: int = 50
    ) -> Sequence[OutboundEndpoint]:
        """Receivers, the last used first; `url`: part of the address."""
        with self._database.reading() as session:
            return repository.endpoints(session, state=state, url=url, limit=limit)

    def endpoint(self, id: str) -> OutboundEndpoint:
        """One receiver. Raises NotFound."""
        with self._database.reading() as session:
            return _found(session, id)

    def enable(self, id: str) -> OutboundEndpoint:
        """Send to it again, and forget its failures; closes its alert. Raises NotFound. Safe to repeat."""
        with self._database.transaction() as session:
            endpoint = _found(session, id, lock=True)
            if endpoint.state == repository.DISABLED:
                enable(endpoint)
                log.info("endpoint enabled", endpoint=id, url=endpoint.url)
            alerts.close_alert(session, ALERT, subject=id, now=clock.now())
        return endpoint

    def disable(self, id: str) -> OutboundEndpoint:
        """Send nothing to it until it is enabled by hand. Raises NotFound. Safe to repeat."""
        with self._database.transaction() as session:
            endpoint = _found(session, id, lock=True)
            if endpoint.state == repository.ENABLED:
                disable(endpoint, repository.OPERATOR, at=clock.now())
                log.info("endpoint disabled by hand", endpoint=id, url=endpoint.url)
        return endpoint

    # --- an attempt

    def _open(self, webhook: OutboundWebhook, delivery_id: str, attempt: int) -> Opened:
        """Begin an attempt. What refuses it is raised behind the commit: it is in the log, too."""
        address, now = egress.receiver(webhook.url), clock.now()
        with self._database.transaction() as session:
            id = hashlib.sha256(address.encode()).hexdigest()[:32]
            endpoint = repository.touch_endpoint(session, id, url=address[:SHOWN], now=now)
            delivery = self._entry(session, webhook, delivery_id, endpoint_id=endpoint.id, now=now)
            if delivery.attempts:  # or it would wait for its own dead attempt
                repository.end_lost_attempts(session, delivery.id, now=now, error=LOST)
            refused = self._refusal(session, endpoint, delivery, now=now)
            if refused is None:
                _begin(session, delivery, now=now)
        if refused is not None:
            raise refused
        return Opened(delivery_id, endpoint.id, delivery.attempts, attempt, delivery.body)

    def _entry(
        self, session: Session, webhook: OutboundWebhook, id: str, *, endpoint_id: str, now: datetime
    ) -> OutboundDelivery:
        """The delivery in the log, as it is to be sent now. Its time is the event's, or that of its acceptance."""
        known = repository.find_delivery(session, id)
        run = task_runs.find(session, id) if known is None else None
        occurred_at = webhook.occurred_at or (known.occurred_at if known else run.accepted_at if run else now)
        delivery = known or OutboundDelivery(id=id, attempts=0, put_off=0, created_at=now, state=TaskState.PROCESSING)
        delivery.endpoint_id, delivery.url, delivery.event = endpoint_id, webhook.url, storable(webhook.event)
        delivery.occurred_at, delivery.touched_at = occurred_at, now
        delivery.body = body_of(webhook.event, webhook.data, occurred_at=occurred_at)
        session.add(delivery)
        return delivery

    def _refusal(
        self, session: Session, endpoint: OutboundEndpoint, delivery: OutboundDelivery, *, now: datetime
    ) -> PlatformError | None:
        if endpoint.state == repository.DISABLED:
            disabled = EndpointDisabled(endpoint.id, endpoint.url)
            delivery.state, delivery.error = TaskState.FAILED, str(disabled)
            return disabled
        busy = repository.running(session, endpoint.id, since=now - self._lost_after)
        if busy < self._rules.limit(endpoint):
            return None
        # Waits twice as long each time, so that a long queue for a slow endpoint costs little; with a part by chance,
        # so that those who wait do not come all at once.
        longest = min(2.0**delivery.put_off, LONGEST_PUT_OFF)
        delivery.state, delivery.put_off = TaskState.SCHEDULED, min(delivery.put_off + 1, 30)
        return EndpointBusy(endpoint.url, longest * random.uniform(0.5, 1))

    def _close(self, opened: Opened, answer: egress.HttpResponse | None, error: BaseException | None) -> None:
        """Write down what came of it. When that fails the delivery stands: to repeat it would send it twice."""
        now = clock.now()
        try:
            with self._database.transaction() as session:
                endpoint = repository.find_endpoint(session, opened.endpoint_id, lock=True)
                delivery = repository.find_delivery(session, opened.delivery_id)
                if delivery is not None:
                    _note(session, delivery, opened, answer=answer, error=error, now=now)
                if endpoint is not None:
                    self._weigh(session, endpoint, error, now=now)
        except Exception as wrong:  # noqa: BLE001
            log.warning("attempt not logged", delivery_id=opened.delivery_id, attempt=opened.number, error=str(wrong))

    def _weigh(
        self, session: Session, endpoint: OutboundEndpoint, error: BaseException | None, *, now: datetime
    ) -> None:
        """What the outcome means for the endpoint."""
        if error is None:
            succeeded(endpoint, at=now)
            return
        if not isinstance(error, BLAMED):
            return
        failed(endpoint, storable(str(error))[:ERROR_LIMIT], at=now, rules=self._rules)
        reason = GONE if isinstance(error, EndpointGone) else self._rules.verdict(endpoint, at=now)
        if reason is None or endpoint.state == repository.DISABLED:
            return
        disable(endpoint, reason, at=now)
        message = complaint(endpoint)
        alerts.open_alert(session, ALERT, subject=endpoint.id, message=message, now=now)
        log.warning("endpoint disabled", endpoint=endpoint.id, url=endpoint.url, reason=reason, message=message)


def _begin(session: Session, delivery: OutboundDelivery, *, now: datetime) -> None:
    delivery.attempts, delivery.put_off, delivery.state = delivery.attempts + 1, 0, TaskState.PROCESSING
    session.flush()  # before the row that refers to it
    session.add(
        OutboundAttempt(
            delivery_id=delivery.id,
            number=delivery.attempts,
            endpoint_id=delivery.endpoint_id,
            started_at=now,
            request_headers=[],
        )
    )
    if delivery.attempts > ATTEMPTS_KEPT:
        repository.trim_attempts(session, delivery.id, below=delivery.attempts - ATTEMPTS_KEPT + 1)


def _note(
    session: Session,
    delivery: OutboundDelivery,
    opened: Opened,
    *,
    answer: egress.HttpResponse | None,
    error: BaseException | None,
    now: datetime,
) -> None:
    said = storable(str(error))[:ERROR_LIMIT] if error is not None else None
    attempt = repository.find_attempt(session, delivery.id, opened.number)
    if attempt is not None and attempt.ended_at is None:
        attempt.ended_at, attempt.error = now, said
        attempt.error_type = type(error).__name__ if error is not None else None
        if answer is not None:
            attempt.status, attempt.duration_ms = answer.status, answer.duration_ms
            attempt.answer = storable(answer.body[:ANSWER_KEPT].decode("utf-8", "replace"))
            attempt.request_headers = list(answer.sent)
    if delivery.attempts == opened.number:  # a later attempt knows better
        delivery.state, delivery.error, delivery.touched_at = _state_after(error, opened.attempt), said, now
        delivery.status = answer.status if answer is not None else None


def _state_after(error: BaseException | None, attempt: int) -> TaskState:
    """What the task becomes, as `RetryPolicy` decides it."""
    if error is None:
        return TaskState.COMPLETED
    if isinstance(error, TaskCancelled):
        return TaskState.CANCELLED
    if isinstance(error, PlatformError) and not error.retryable:
        return TaskState.FAILED
    return TaskState.DEAD_LETTER if attempt > len(OUTBOUND_SCHEDULE) else TaskState.SCHEDULED


def _found(session: Session, id: str, *, lock: bool = False) -> OutboundEndpoint:
    endpoint = repository.find_endpoint(session, id, lock=lock) if "\x00" not in id else None
    if endpoint is None:
        raise NotFound("endpoint", id)
    return endpoint
