"""Outbound webhooks: make one attempt at a delivery, log it, and update the receiver (the endpoint).

An attempt has three steps:

1. `_begin_attempt`, one transaction: store the endpoint and the delivery, and begin the attempt. It is refused if the
   endpoint is disabled or has reached its number of deliveries in flight.
2. The POST.
3. `_finish_attempt`, one transaction: log the outcome, count it for the endpoint, and disable the endpoint if needed.

After a crash between 1 and 3 the task is delivered again, and sends the same `webhook-id` again. So a receiver may get
a webhook twice (at-least-once delivery) and recognizes it by the id. The log shows the attempt without an outcome as
lost.
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
from laneway.platform.audit_log.recording import record
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
from laneway.platform.settings import OutboundSettings
from laneway.platform.webhooks import egress, endpoint_rules
from laneway.platform.webhooks.destinations import Destinations
from laneway.platform.webhooks.endpoint_rules import EndpointRules
from laneway.platform.webhooks.sender import (
    OUTBOUND_SCHEDULE,
    EndpointGone,
    Sender,
    delivery_body,
    raise_unless_successful,
)
from laneway.schemas.outbound_webhook import OutboundWebhook, Receipt
from laneway.schemas.task import TaskState

log = logger(__name__)


RESPONSE_KEPT: Final = 1024
"""Bytes of a response that the log keeps."""
ATTEMPTS_KEPT: Final = 100
"""Most attempts of a delivery that the log keeps, the newest ones, including those of replays."""
MAX_URL: Final = 500
"""Characters of an endpoint's URL that are stored for display."""
LOST_AFTER: Final = 30.0
"""Seconds beyond the timeout of a POST after which an unfinished attempt no longer counts as in flight."""
MAX_POSTPONEMENT: Final = 300.0
"""Most seconds that a delivery to a busy endpoint waits before it is tried again."""
ENDPOINT_FAULTS: Final = (UpstreamError, egress.ForbiddenAddress, EndpointGone)
"""Errors that count against the endpoint; any other error is our own."""
LOST: Final = "The outcome is unknown: the worker died, or the database could not be reached."


class EndpointDisabled(PermanentError):
    """The receiver is disabled; the delivery can be replayed when it is enabled again."""

    status, title = 409, "Endpoint disabled"

    template = "{url} is disabled; nothing is sent there until somebody enables endpoint {id}."
    id: str
    url: str


class EndpointBusy(RetryableError):
    """The receiver has reached its number of deliveries in flight. This is no failure: try again in `delay` seconds."""

    title = "Endpoint busy"

    template = "{url} is busy with other deliveries"
    url: str
    delay: float

    @property
    def retry_after(self) -> float:
        return self.delay


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt that was begun and has no outcome yet."""

    delivery_id: str
    endpoint_id: str
    number: int
    """Its number in the log."""
    attempt: int
    """Its number in this run of the task, from 1."""
    body: str


class OutboundWebhooks:
    """Delivers outbound webhooks and manages their receivers."""

    def __init__(
        self, database: Database, settings: OutboundSettings, destinations: Destinations, *, slots: int
    ) -> None:
        """`slots`: tasks that a worker runs at once. By default one receiver gets all but one of them."""
        self._database, self._sender, self._destinations = database, Sender(settings), destinations
        self._rules = EndpointRules(
            disable_after=timedelta(days=settings.disable_after_days),
            in_flight=settings.max_in_flight or max(1, slots - 1),
        )
        self._lost_after = timedelta(seconds=settings.timeout + LOST_AFTER)

    def deliver(self, webhook: OutboundWebhook, *, delivery_id: str, attempt: int) -> Receipt:
        """Make the `attempt`-th attempt (from 1); `delivery_id` stays the same for all attempts.

        Raises before anything is sent: EndpointBusy and DatabaseUnavailable (retry, the attempt does not count),
        UnknownDestination, SecretUnreadable (retry), and InvalidPayload for a webhook that cannot be sent.
        Raises EndpointDisabled, EndpointGone and ForbiddenAddress (permanent), and UpstreamError (retry).
        """
        self._sender.check(delivery_id)
        url, keys = egress.display_url(webhook.url), self._destinations.keys(webhook.url)
        opened = self._begin_attempt(webhook, delivery_id, attempt)
        response = None
        try:
            response = self._sender.post(webhook.url, opened.body, keys=keys, delivery_id=delivery_id)
            raise_unless_successful(response, url, attempt=attempt)
        except BaseException as error:
            self._finish_attempt(opened, response, error)
            raise
        self._finish_attempt(opened, response, None)
        return Receipt(
            delivery_id=delivery_id,
            event=webhook.event,
            status=response.status,
            url=url,
            attempt=attempt,
            duration_ms=response.duration_ms,
        )

    # --- receivers

    def endpoints(
        self, *, state: str | None = None, url: str | None = None, limit: int = 50
    ) -> Sequence[OutboundEndpoint]:
        """Return receivers, the most recently used first; `url`: only those whose URL contains it."""
        with self._database.reading() as session:
            return repository.endpoints(session, state=state, url=url, limit=limit)

    def endpoint(self, id: str) -> OutboundEndpoint:
        """Return one receiver. Raises NotFound."""
        with self._database.reading() as session:
            return _find_endpoint(session, id)

    def enable(self, id: str) -> OutboundEndpoint:
        """Enable a receiver, forget its failures, and close its alert. Raises NotFound. Safe to repeat."""
        with self._database.transaction() as session:
            endpoint = _find_endpoint(session, id, lock=True)
            if endpoint.state == repository.DISABLED:
                endpoint_rules.enable(endpoint)
                log.info("endpoint enabled", endpoint=id, url=endpoint.url)
            alerts.close_alert(session, endpoint_rules.ALERT, subject=id, now=clock.now())
            record(session, "receiver.enable", ("receiver", id))
        return endpoint

    def disable(self, id: str) -> OutboundEndpoint:
        """Disable a receiver until an operator enables it. Raises NotFound. Safe to repeat."""
        with self._database.transaction() as session:
            endpoint = _find_endpoint(session, id, lock=True)
            if endpoint.state == repository.ENABLED:
                endpoint_rules.disable(endpoint, repository.OPERATOR, at=clock.now())
                log.info("endpoint disabled by hand", endpoint=id, url=endpoint.url)
            record(session, "receiver.disable", ("receiver", id))
        return endpoint

    # --- an attempt

    def _begin_attempt(self, webhook: OutboundWebhook, delivery_id: str, attempt: int) -> OpenAttempt:
        """Begin an attempt. A refusal is raised after the commit, so that the log contains it."""
        url, now = egress.endpoint_url(webhook.url), clock.now()
        with self._database.transaction() as session:
            id = hashlib.sha256(url.encode()).hexdigest()[:32]
            endpoint = repository.touch_endpoint(session, id, url=url[:MAX_URL], now=now)
            delivery = self._store_delivery(session, webhook, delivery_id, endpoint_id=endpoint.id, now=now)
            if delivery.attempts:  # a lost attempt must not count as in flight: the delivery would wait for itself
                repository.end_lost_attempts(session, delivery.id, now=now, error=LOST)
            refusal = self._refusal(session, endpoint, delivery, now=now)
            if refusal is None:
                _store_attempt(session, delivery, now=now)
        if refusal is not None:
            raise refusal
        return OpenAttempt(delivery_id, endpoint.id, delivery.attempts, attempt, delivery.body)

    def _store_delivery(
        self, session: Session, webhook: OutboundWebhook, id: str, *, endpoint_id: str, now: datetime
    ) -> OutboundDelivery:
        """Store the delivery as it is sent now. `occurred_at` is the time of the event, or of the task's acceptance."""
        known = repository.find_delivery(session, id)
        run = task_runs.find(session, id) if known is None else None
        occurred_at = webhook.occurred_at or (known.occurred_at if known else run.accepted_at if run else now)
        delivery = known or OutboundDelivery(id=id, attempts=0, put_off=0, created_at=now, state=TaskState.PROCESSING)
        delivery.endpoint_id, delivery.url, delivery.event = endpoint_id, webhook.url, storable(webhook.event)
        delivery.occurred_at, delivery.touched_at = occurred_at, now
        delivery.body = delivery_body(webhook.event, webhook.data, occurred_at=occurred_at)
        session.add(delivery)
        return delivery

    def _refusal(
        self, session: Session, endpoint: OutboundEndpoint, delivery: OutboundDelivery, *, now: datetime
    ) -> PlatformError | None:
        """Return the error with which the attempt is refused, or None. The delivery's row gets the same state."""
        if endpoint.state == repository.DISABLED:
            disabled = EndpointDisabled(endpoint.id, endpoint.url)
            delivery.state, delivery.error = TaskState.FAILED, str(disabled)
            return disabled
        in_flight = repository.running(session, endpoint.id, since=now - self._lost_after)
        if in_flight < self._rules.max_in_flight(endpoint):
            return None
        # The wait doubles each time, so that a long queue for a slow endpoint costs little. It is partly random, so
        # that the waiting deliveries do not all come back at once.
        longest = min(2.0**delivery.put_off, MAX_POSTPONEMENT)
        delivery.state, delivery.put_off = TaskState.SCHEDULED, min(delivery.put_off + 1, 30)
        return EndpointBusy(endpoint.url, longest * random.uniform(0.5, 1))

    def _finish_attempt(
        self, opened: OpenAttempt, response: egress.HttpResponse | None, error: BaseException | None
    ) -> None:
        """Log the outcome and update the endpoint. An error here is only logged: a retry would POST a second time."""
        now = clock.now()
        try:
            with self._database.transaction() as session:
                endpoint = repository.find_endpoint(session, opened.endpoint_id, lock=True)
                delivery = repository.find_delivery(session, opened.delivery_id)
                if delivery is not None:
                    _log_outcome(session, delivery, opened, response=response, error=error, now=now)
                if endpoint is not None:
                    self._update_endpoint(session, endpoint, error, now=now)
        except Exception as failure:  # noqa: BLE001
            log.warning("attempt not logged", delivery_id=opened.delivery_id, attempt=opened.number, error=str(failure))

    def _update_endpoint(
        self, session: Session, endpoint: OutboundEndpoint, error: BaseException | None, *, now: datetime
    ) -> None:
        """Record the outcome with the endpoint; disable it and open an alert if the rules say so."""
        if error is None:
            endpoint_rules.record_success(endpoint, at=now)
            return
        if not isinstance(error, ENDPOINT_FAULTS):
            return
        endpoint_rules.record_failure(endpoint, storable(str(error))[:ERROR_LIMIT], at=now, rules=self._rules)
        gone = isinstance(error, EndpointGone)
        reason = endpoint_rules.GONE if gone else self._rules.disable_reason(endpoint, at=now)
        if reason is None or endpoint.state == repository.DISABLED:
            return
        endpoint_rules.disable(endpoint, reason, at=now)
        message = endpoint_rules.alert_message(endpoint)
        alerts.open_alert(session, endpoint_rules.ALERT, subject=endpoint.id, message=message, now=now)
        log.warning("endpoint disabled", endpoint=endpoint.id, url=endpoint.url, reason=reason, message=message)


def _store_attempt(session: Session, delivery: OutboundDelivery, *, now: datetime) -> None:
    delivery.attempts, delivery.put_off, delivery.state = delivery.attempts + 1, 0, TaskState.PROCESSING
    session.flush()  # the delivery's row must exist before the attempt's row refers to it
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


def _log_outcome(
    session: Session,
    delivery: OutboundDelivery,
    opened: OpenAttempt,
    *,
    response: egress.HttpResponse | None,
    error: BaseException | None,
    now: datetime,
) -> None:
    message = storable(str(error))[:ERROR_LIMIT] if error is not None else None
    attempt = repository.find_attempt(session, delivery.id, opened.number)
    if attempt is not None and attempt.ended_at is None:
        attempt.ended_at, attempt.error = now, message
        attempt.error_type = type(error).__name__ if error is not None else None
        if response is not None:
            attempt.status, attempt.duration_ms = response.status, response.duration_ms
            attempt.answer = storable(response.body[:RESPONSE_KEPT].decode("utf-8", "replace"))
            attempt.request_headers = list(response.request_headers)
    if delivery.attempts == opened.number:  # no later attempt has set the state
        delivery.state, delivery.error, delivery.touched_at = _state_after(error, opened.attempt), message, now
        delivery.status = response.status if response is not None else None


def _state_after(error: BaseException | None, attempt: int) -> TaskState:
    """Return the state that the task will get: the same as `OutcomePolicy` decides."""
    if error is None:
        return TaskState.COMPLETED
    if isinstance(error, TaskCancelled):
        return TaskState.CANCELLED
    if isinstance(error, PlatformError) and not error.retryable:
        return TaskState.FAILED
    return TaskState.DEAD_LETTER if attempt > len(OUTBOUND_SCHEDULE) else TaskState.SCHEDULED


def _find_endpoint(session: Session, id: str, *, lock: bool = False) -> OutboundEndpoint:
    endpoint = repository.find_endpoint(session, id, lock=lock) if "\x00" not in id else None
    if endpoint is None:
        raise NotFound("endpoint", id)
    return endpoint
