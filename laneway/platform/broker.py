"""Publishes tasks to the broker, and reads and changes its queues.

The delivery engine delivers the tasks of an ordering key in order, holds scheduled tasks until they are due, refuses
tasks beyond the limits of a queue, and finds the message of a task. Other brokers cannot do this: with them `engine` is
None, and each method says what it then does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from celery import Celery

from laneway.engine import Durability, Engine, LeaseStatus, MessageInfo, MessageState, PutCode, QueueStats, Stray
from laneway.engine.batches import split
from laneway.engine.elapsed import ServerClock
from laneway.engine.engine import CHUNK, CHUNK_BYTES
from laneway.engine.errors import TaskCancelled, TooLate
from laneway.installation import TRANSPORT
from laneway.platform import clock, tracing
from laneway.platform.broker_errors import refusal_of, translated_errors
from laneway.platform.circuit_breaker import ANSWER_SECONDS, CONNECT_SECONDS, CircuitBreaker
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import (
    BrokerUnavailable,
    DuplicateTask,
    HistoryBehind,
    NewerQueue,
    PlatformError,
    QueueFull,
    Unsendable,
    Unsupported,
)
from laneway.platform.flow.rate_limits import RateLimit
from laneway.platform.flow.task_flow import stored_flow
from laneway.platform.logging import logger
from laneway.platform.put_conditions import PutConditions, report_newer, seconds_until_due, version_of
from laneway.platform.queues import queues as declared
from laneway.platform.refusals import Refusals
from laneway.platform.submission.acceptance import unique_of
from laneway.platform.task_messages import TaskMessage, TaskMessages, call_options, check_sendable, headers_of
from laneway.results.backend import forget_results
from laneway.transport.codec import HEADER_CHECKED, message_options

log = logger(__name__)

PUBLISH_WITHIN = 5.0
"""The engine takes a message for this many seconds after its sender has claimed the row (`published_at`).

A sender that was paused for longer must not send the task: another sender may have sent it since, and a worker may have
finished it.
"""
TIMEOUTS: Final = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": CONNECT_SECONDS}
"""Timeouts of the platform's own calls. Workers wait longer for their messages, on connections of their own."""
CONFIRM_SECONDS = 5
"""Seconds that RabbitMQ may take to confirm a message. Other brokers confirm at once."""

Enforce = Callable[[Engine, Mapping[str, Mapping[str, int]]], None]
"""Sets limits that the engine lacks; it gets queue → the limits of the queue at the engine."""
RateLimits = Callable[[], Mapping[str, RateLimit]]
"""Returns queue → the limits that operators have set, as the database has them now."""


class Broker:
    """Publishes tasks, and reads and changes queues."""

    def __init__(
        self,
        app: Celery,
        *,
        max_queue_size: int,
        max_unread: int,
        rate_limits: RateLimits = dict,
        enforce: Enforce | None = None,
    ) -> None:
        """`max_queue_size`: most waiting tasks of one queue. `max_unread`: most unrecorded events of one queue."""
        self._app, self._max_queue_size, self._max_unread, self._enforce = app, max_queue_size, max_unread, enforce
        self._rate_limits, self._circuit_breaker = rate_limits, CircuitBreaker()
        self.messages = TaskMessages(app)
        self._configured: set[str] = set()
        self._reported: set[tuple[str, str]] = set()

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that the application declared."""
        return tuple(declared)

    @cached_property
    def engine(self) -> Engine | None:
        """The delivery engine of this broker, or None on another transport."""
        if self._app.conf.broker_transport != TRANSPORT:
            return None
        options: dict[str, Any] = self._app.conf.broker_transport_options
        prefix: str = options.get("global_keyprefix", "")
        settings: dict[str, Any] = {**options["connection"], **TIMEOUTS}
        return Engine.from_url(self._app.conf.broker_url, key_prefix=prefix, **settings)

    def require_engine(self, feature: str) -> Engine:
        """Return the delivery engine. Raises Unsupported, which names the feature, on another transport."""
        if self.engine is None:
            raise Unsupported(feature, self._app.conf.broker_url.partition(":")[0])
        return self.engine

    @contextmanager
    def guarded(self) -> Generator[None]:
        """Use the broker in this block; its errors are raised as the platform's.

        Raises BrokerUnavailable at once while the broker is known not to answer.
        """
        with self._circuit_breaker.guarded(), translated_errors():
            yield

    def publish(self, run: TaskRun, *, delay: float = 0, durability: Durability = Durability.MEMORY) -> None:
        """Put one task into its queue, to be delivered `delay` seconds from now.

        Raises QueueFull, HistoryBehind, DuplicateTask, BrokerUnavailable, NotDurable (the message may be queued),
        Unsupported, Unsendable. Without the engine there is no order by key and no limit, and a delayed task waits in
        a worker's memory.
        """
        check_sendable(run)
        if unique_of(run):
            self.require_engine("uniqueness")
        if durability is not Durability.MEMORY:
            self.require_engine(f"durability {durability.value!r}")
        with self.guarded():
            self._configure_queue(run.queue)
            if self.engine is None or not self.messages.can_build:
                self._send_by_celery(run, delay, durability)
                return
            message = self._build(run, delay)
            try:
                self.engine.put(run.queue, message.envelope, durability=durability, **self._conditions([run]))
            except TaskCancelled as error:
                log.info("task not published", task_id=run.id, reason=str(error))
                return
            except TooLate:
                self._server_clock.forget()
                raise
        self.messages.announce([message])

    def publish_many(self, runs: Sequence[TaskRun]) -> list[PlatformError | None]:
        """Put many tasks into their queues, in this order; return the refusal of each, or None.

        Each task is delivered when it is due. After a refusal, the later tasks of the same ordering key are not sent.
        The engine takes consecutive tasks of one queue together, up to `CHUNK` or `CHUNK_BYTES` in one round trip.
        """
        if self.engine is None or not self.messages.can_build:
            return self._publish_each(runs)
        refusals = Refusals()
        for queue, batch in self._batches(runs, refusals):
            messages = [message for message in batch if not refusals.blocks(message.run)]
            if not messages:
                continue
            try:
                with self.guarded():
                    self._configure_queue(queue)
                    conditions = self._conditions([message.run for message in messages])
                    envelopes = [message.envelope for message in messages]
                    results = self.engine.put_many(queue, envelopes, **conditions)
            except NewerQueue as error:
                for message in messages:
                    refusals.note(message.run, error)
                continue
            except BrokerUnavailable as error:  # each further group would fail the same way, perhaps after a timeout
                return refusals.of(runs, otherwise=error)
            if any(result.code is PutCode.TOO_LATE for result in results):
                self._server_clock.forget()
            for message, result in zip(messages, results, strict=True):
                refusals.note(message.run, refusal_of(result))
            self.messages.announce([message for message in messages if refusals.by_id[message.run.id] is None])
        return refusals.of(runs)

    def purge(self, queue: str) -> int:
        """Cancel the waiting tasks of a queue; returns their number. Raises Unsupported without the engine."""
        engine = self.require_engine("emptying a queue")
        with self.guarded():
            return engine.purge(queue)

    def prepare(self) -> None:
        """Set the limits that the broker lacks after it lost its data. Queues of a newer version are left alone."""
        stats = {found.queue: found for found in self.stats(self.queues) or ()}
        self._reported = report_newer(list(stats.values()), self._reported)
        newer = {name for name, found in stats.items() if found.is_newer}
        for found in stats.values():
            if "journal" not in found.limits or "max_size" not in found.limits:
                self._configured.discard(found.queue)
        with self.guarded():
            for queue in self.queues:
                if queue not in newer:
                    self._configure_queue(queue)
        for queue, limit in self._rate_limits().items() if stats else ():
            if queue in stats and queue not in newer and not limit.holds(stats[queue]):
                self.set_rate_limit(queue, limit)
        if self._enforce is not None and self.engine is not None and stats:
            with self.guarded():
                self._enforce(self.engine, {name: stats[name].limits for name in stats.keys() - newer})

    def set_rate_limit(self, queue: str, limit: RateLimit) -> None:
        """Set the rate, the number in flight and the pause of a queue. Raises Unsupported without the engine."""
        engine = self.require_engine("limits of queues")
        with self.guarded():
            engine.throttle(queue, limit.for_engine)
            (engine.pause if limit.paused else engine.resume)(queue)

    def remove_message(self, queue: str, id: str, *, version: int | None = None) -> bool:
        """Remove a waiting message, or mark a leased one as cancelled. False when there is no message or no engine."""
        if self.engine is None:
            return False
        with self.guarded():
            cancelled = self.engine.cancel(queue, id, version=version)
        return bool(cancelled.removed or cancelled.marked)

    def cancel(self, run: TaskRun) -> bool:
        """Remove a waiting message, or mark a leased one as cancelled. False when there is no message or no engine.

        Without a message, the engine refuses the one that a sender of this row may be about to put.
        """
        return self.remove_message(run.queue, run.id, version=version_of([run]))

    def discard(self, queue: str, ids: Sequence[str]) -> None:
        """Delete the dead letters of tasks, as far as there are any."""
        if self.engine is not None:
            with self.guarded():
                found = self.engine.find_many(queue, ids, bodies=False)
                self.engine.discard(
                    queue, [each.stored.id for each in found if each and each.state is MessageState.DEAD]
                )

    def forget_results(self, ids: Sequence[str]) -> None:
        """Delete tasks' results from Celery's result store, which would not replace them when the tasks run again."""
        with translated_errors(), suppress(NotImplementedError):  # some stores cannot
            forget_results(self._app.backend, ids)

    def requeue(self, queue: str, id: str) -> bool:
        """Deliver the dead letter of a task again; False when there is none."""
        if self.engine is None:
            return False
        with self.guarded():
            found = self.engine.find_many(queue, [id], bodies=False)[0]
            if found is None or found.state is not MessageState.DEAD:
                return False
            return self.engine.requeue(queue, [found.stored.id]) == [LeaseStatus.DONE]

    def find(self, queue: str, ids: Sequence[str], *, bodies: bool = False) -> list[MessageInfo | None] | None:
        """The message of each task, by default without its body, or None for it; None without the engine."""
        if self.engine is None:
            return None
        with self.guarded():
            return self.engine.find_many(queue, ids, bodies=bodies)

    def find_strays(self, queue: str, *, repair: bool) -> list[Stray]:
        """The messages that are in no state, and the references without a message (`Engine.find_strays`)."""
        if self.engine is None:
            return []
        with self.guarded():
            found = list(dict.fromkeys(self.engine.find_strays(queue, repair=repair)))
        if found:
            log.warning("messages in no state", queue=queue, found=len(found), repaired=repair)
        return found

    def stats(self, queues: Sequence[str]) -> list[QueueStats] | None:
        """The sizes and limits of queues. None without the engine."""
        if self.engine is None:
            return None
        with self.guarded():
            return self.engine.stats(queues)

    def ping(self) -> None:
        """Raise BrokerUnavailable unless the broker answers."""
        if self.engine is not None:
            with self.guarded():
                self.engine.time()
            return
        with self.guarded(), self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)

    def close(self) -> None:
        """Close the connections of this process."""
        if "engine" in self.__dict__ and self.engine is not None:
            self.engine.close()

    def _build(self, run: TaskRun, delay: float) -> TaskMessage:
        return self.messages.build(run, delay=delay, priority=self.message_priority(run.priority))

    def _batches(self, runs: Sequence[TaskRun], refusals: Refusals) -> Iterator[tuple[str, list[TaskMessage]]]:
        """Yield the messages of consecutive rows of one queue. Each batch is built when it is needed.

        A call of the engine keeps the order of a key: if it refuses a task, it refuses the later tasks of the key, too.
        """
        for queue, same_queue in groupby(runs, key=attrgetter("queue")):
            messages = self._build_each(same_queue, refusals)
            for batch in split(messages, attrgetter("size"), most=CHUNK, most_bytes=CHUNK_BYTES):
                yield queue, batch

    def _build_each(self, runs: Iterable[TaskRun], refusals: Refusals) -> Iterator[TaskMessage]:
        """Yield the messages of the rows that can be sent, and note the refusals of the others."""
        for run in runs:
            try:
                yield self._build(run, seconds_until_due(run))
            except Unsendable as error:
                refusals.note(run, error)

    def _publish_each(self, runs: Sequence[TaskRun]) -> list[PlatformError | None]:
        refusals = Refusals()
        for run in runs:
            if refusals.blocks(run):
                continue
            try:
                self.publish(run, delay=seconds_until_due(run))
            except (QueueFull, HistoryBehind, DuplicateTask, Unsendable) as error:
                refusals.note(run, error)
            except BrokerUnavailable as error:  # each further task would fail the same way, perhaps after a timeout
                return refusals.of(runs, otherwise=error)
            else:
                refusals.note(run, None)
        return refusals.of(runs)

    def _send_by_celery(self, run: TaskRun, delay: float, durability: Durability) -> None:
        """Publish by `send_task`, for other transports and for what `TaskMessages.can_build` excludes."""
        options: dict[str, Any] = {}
        if self.engine is not None:
            self.engine.time()  # a broker that does not answer is noticed sooner here than on Celery's connection
            options = message_options(
                key=run.key,
                unique=unique_of(run),
                flow=stored_flow(run.options),
                durability=durability,
                once=True,
                body_known=True,
                **self._conditions([run]),
            )
        publication = spans.publish(run) if (spans := tracing.active) is not None else None
        trace = publication.headers if publication is not None else {}
        self._app.send_task(
            run.name,
            kwargs=run.payload,
            task_id=run.id,
            queue=run.queue,
            countdown=delay if delay > 0 else None,
            expires=run.expires_at,
            priority=self.message_priority(run.priority),
            retry=False,
            # Without this option Celery would subscribe to the result of each task that it sends, and never
            # unsubscribe. The header makes the worker store the result nevertheless.
            ignore_result=True,
            headers={"ignore_result": False, HEADER_CHECKED: True, **headers_of(run), **trace, **options},
            **self._confirmation,
            **call_options(run),
        )
        if publication is not None:
            publication.end()

    def _conditions(self, runs: Sequence[TaskRun]) -> PutConditions:
        return {"not_after": self._deadline(runs), "version": version_of(runs)}

    def _deadline(self, runs: Sequence[TaskRun]) -> float | None:
        """Return the server's Unix time (s) after which it must not take these messages; None: no row is claimed.

        The age of a claim is measured by the clock that made it, and the rest of its time is added to the server's
        clock. So an API whose clock is wrong can submit tasks all the same.
        """
        claimed = min((run.published_at for run in runs if run.published_at), default=None)
        if claimed is None or self.engine is None:
            return None
        return self._server_clock.now() + PUBLISH_WITHIN - (clock.now() - claimed).total_seconds()

    @cached_property
    def _server_clock(self) -> ServerClock:
        return ServerClock(self.require_engine("a time limit for submissions").time)

    def _configure_queue(self, queue: str) -> None:
        """Set the limits of a queue, once per process: the limits of the process that started last apply."""
        if self.engine is not None and queue not in self._configured:
            if not self._configured:
                self.engine.check()
            self.engine.set_max_size(queue, self._max_queue_size)
            self.engine.enable_journal(queue, self._max_unread)
            self._configured.add(queue)

    @cached_property
    def _confirmation(self) -> dict[str, Any]:
        """The option that makes RabbitMQ confirm each message."""
        confirms: Any = self._app.conf.broker_transport_options.get("confirm_publish")
        return {"confirm_timeout": CONFIRM_SECONDS} if confirms else {}

    @cached_property
    def _zero_goes_first(self) -> bool:
        transport: Any = self._app.connection_for_write().get_transport_cls()
        return self.engine is None and transport.driver_type == "redis"

    def message_priority(self, priority: int) -> int:
        """Convert a platform priority (3 goes first): 0 goes first in kombu's Redis transport, 9 in the others."""
        return 9 - 3 * priority if self._zero_goes_first else 3 * priority
