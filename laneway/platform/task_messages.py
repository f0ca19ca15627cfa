"""Celery messages of tasks, built from their rows.

Each message is the one that `send_task` would build, but the engine takes it directly, without kombu's exchanges,
declarations and producers. The side effects of Celery's own publishing are kept: `after_task_publish`, the event
`task-sent`, and the parent and children of a task that submits another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from celery import Celery, signals
from celery.utils.saferepr import saferepr
from kombu.exceptions import KombuError
from kombu.serialization import dumps
from redis.exceptions import RedisError

from laneway.engine import Message
from laneway.engine.errors import EngineError
from laneway.platform import clock, tracing
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import Unsendable
from laneway.platform.flow.task_flow import stored_flow
from laneway.platform.history.adoption import PAYLOAD_UNKNOWN, is_not_signed
from laneway.platform.logging import without_secrets
from laneway.platform.submission.acceptance import unique_of
from laneway.platform.submission.routes import TaskRoutes
from laneway.platform.tracing.carrier import CARRIER, carrier_of
from laneway.transport.codec import message_options, to_message
from laneway.transport.signatures import Signer, signer_of
from laneway.worker.producer import publish_task_sent

if TYPE_CHECKING:
    from laneway.platform.tracing.spans import Publication

MOST_SHOWN: Final = 1024
"""The most characters of a payload that events show, as in Celery."""
REQUEST_HEADER: Final = "laneway-request"
"""The id of the HTTP request that submitted the task, for the log lines of the task."""
RETRIES_HEADER: Final = "laneway-retries"
"""The number of retries of a task that was submitted with a number of its own."""
KILL_AFTER: Final = 5.0
"""Seconds after the task's own (soft) time limit at which its process is killed."""
_PERSISTENT: Final = 2
"""AMQP's delivery mode for persistent messages. The codec does not store it, because it is the default."""
_EVENT_ERRORS = (EngineError, RedisError, KombuError, OSError)


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """A message for the engine, and the data that is announced once the engine has it."""

    run: TaskRun
    envelope: Message
    headers: dict[str, Any]
    body: Any
    sent_event: dict[str, Any] | None
    publication: Publication | None = None
    """Its span, which ends when the engine has it."""

    @property
    def size(self) -> int:
        """The bytes of its body."""
        return len(self.envelope.body)


class TaskMessages:
    """Builds and announces messages for one Celery app."""

    def __init__(self, app: Celery) -> None:
        self._app: Any = app  # Celery's stubs lack what is used here

    @property
    def can_build(self) -> bool:
        """False when the app needs Celery's own publishing: it has routes of its own, another protocol or serializer,
        compression, or receivers of `before_task_publish` or `task_sent`."""
        return self._is_plain and not signals.before_task_publish.receivers and not signals.task_sent.receivers

    def build(self, run: TaskRun, *, delay: float, priority: int) -> TaskMessage:
        """Build the message of a row, to be delivered in `delay` seconds. Raises Unsendable for an unreadable row."""
        check_sendable(run)
        app = self._app
        parent: Any = app.current_worker_task
        made: Any = app.amqp.as_task_v2(
            run.id,
            run.name,
            (),
            run.payload,
            countdown=delay if delay > 0 else None,
            expires=run.expires_at,
            reply_to=app.thread_oid,
            create_sent_event=self._announces,
            root_id=(parent.request.root_id or parent.request.id) if parent else None,
            parent_id=parent.request.id if parent else None,
            ignore_result=False,
            **call_options(run),
        )
        content_type, encoding, body = dumps(made.body, serializer="json")
        headers, publication = made.headers | headers_of(run), None
        if (spans := tracing.active) is not None:
            publication = spans.publish(run)
            headers |= publication.headers
        flow = stored_flow(run.options)
        options = message_options(key=run.key, unique=unique_of(run), flow=flow, once=True, body_known=True)
        envelope = to_message(
            {
                "body": body,
                "content-type": content_type,
                "content-encoding": encoding,
                "headers": headers | options,
                "properties": made.properties | _properties(run, priority),
            }
        )
        envelope = self.signer.sign(run.queue, envelope)
        return TaskMessage(run, envelope, headers, made.body, made.sent_event, publication)

    def announce(self, messages: Sequence[TaskMessage]) -> None:
        """Tell Celery's listeners that these messages are queued. A lost event does not fail the submission."""
        parent: Any = self._app.current_worker_task
        for message in messages:
            if message.publication is not None:
                message.publication.end()
            route = {"exchange": "", "routing_key": message.run.queue}
            if signals.after_task_publish.receivers:
                signals.after_task_publish.send(
                    sender=message.run.name, body=message.body, headers=message.headers, **route
                )
            if parent:
                parent.add_trail(self._app.AsyncResult(message.run.id))
        if messages and self._announces:
            with suppress(*_EVENT_ERRORS):
                self._publish_events(messages)

    def _publish_events(self, messages: Sequence[TaskMessage]) -> None:
        with self._app.producer_pool.acquire(block=True) as producer, producer.channel.sent_together():
            for message in messages:
                route = {"exchange": "", "routing_key": message.run.queue, "queue": message.run.queue}
                publish_task_sent(producer.channel, self._dispatcher, (message.sent_event or {}) | route)

    @cached_property
    def signer(self) -> Signer:
        """Signs and verifies the messages of this app. Raises KeyRingUnusable."""
        return signer_of(self._app.conf.broker_transport_options or {})

    @cached_property
    def _announces(self) -> bool:
        return bool(self._app.conf.task_send_sent_event)

    @cached_property
    def _dispatcher(self) -> Any:
        return self._app.events.Dispatcher(enabled=False)

    @cached_property
    def _is_plain(self) -> bool:
        conf = self._app.conf
        return (
            conf.task_protocol == 2
            and conf.task_serializer == "json"
            and conf.event_serializer == "json"
            and not conf.task_compression
            and all(isinstance(route, TaskRoutes) for route in conf.task_routes or ())
        )


def check_sendable(run: TaskRun) -> None:
    """Raise Unsendable for a row that cannot be made into a message. A later error is not the fault of the row."""
    payload: Any = run.payload
    try:
        is_unknown = run.options.get(PAYLOAD_UNKNOWN)
        unique: Any = unique_of(run)
        stored_flow(run.options)
        headers_of(run)
        time_limits(run)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise Unsendable(run.id, f"{type(error).__name__}: {error}"[:500]) from error
    if is_not_signed(run):
        raise Unsendable(run.id, "its message is not signed by us")
    if is_unknown:
        raise Unsendable(run.id, "its payload is not known")
    if not isinstance(payload, dict):
        raise Unsendable(run.id, "its payload is no object")
    if unique and not (isinstance(unique.key, str) and isinstance(unique.ttl_ms, int)):
        raise Unsendable(run.id, "its uniqueness key or time is not valid")


def headers_of(run: TaskRun) -> dict[str, Any]:
    """The headers that the platform adds to a message."""
    max_retries = run.options.get("max_retries")
    retries = {} if max_retries is None else {RETRIES_HEADER: max_retries}
    trace = carrier_of(run.options) if CARRIER in run.options else {}
    return {REQUEST_HEADER: run.request_id, **retries, **trace}


def time_limits(run: TaskRun) -> dict[str, Any]:
    """Celery's time limits of a task that was submitted with its own limit; empty for any other task."""
    limit = run.options.get("time_limit")
    return {} if limit is None else {"soft_time_limit": limit, "time_limit": limit + KILL_AFTER}


def call_options(run: TaskRun) -> dict[str, Any]:
    """The time limits of a task, and its payload as events, `inspect` and Flower show it: short and without secrets."""
    return {"kwargsrepr": saferepr(without_secrets(run.payload), MOST_SHOWN), **time_limits(run)}


def _properties(run: TaskRun, priority: int) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "delivery_mode": _PERSISTENT,
        "priority": priority,
        "delivery_info": {"exchange": "", "routing_key": run.queue},
    }
    if run.expires_at is not None:
        left = (run.expires_at - clock.now()).total_seconds()
        properties["expiration"] = str(int(max(0, left) * 1000))
    return properties
