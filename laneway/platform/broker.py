"""The broker, behind the few things that the platform asks of it. Nothing else talks to Celery's transport.

On the delivery engine a queue keeps order by key, holds what is due later, refuses what is too much, and
can be asked where a task is. On other brokers those are missing: `engine` is None, and each method says what
that means.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import groupby, islice
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from laneway.engine import Durability, Engine, LeaseStatus, MessageInfo, MessageState, PutCode, PutResult, QueueStats
from laneway.engine import errors as engine_errors
from laneway.engine.engine import CHUNK
from laneway.installation import TRANSPORT
from laneway.platform import clock, errors
from laneway.platform.circuit_breaker import CircuitBreaker
from laneway.platform.db.models import TaskRun
from laneway.platform.flow.rate_limits import RateLimit
from laneway.platform.logging import URL_LOGIN
from laneway.platform.queues import queues as declared
from laneway.platform.submission.acceptance import unique_of
from laneway.transport.codec import message_options

REQUEST_HEADER = "laneway-request"
"""The id of the request that a task came from, for its log lines."""

RETRIES_HEADER = "laneway-retries"
"""How often a task may be retried, where it was submitted with a number of its own."""
KILL_AFTER = 5.0
"""Seconds from a task's own time limit, at which it is told, until its process is killed."""
PUBLISH_WITHIN = 5.0
"""Seconds from the moment a task's row names its sender until the engine takes no message of it any more: a sender that
stood still meanwhile must not send what others have sent, and a worker has done."""
CONFIRM_SECONDS = 5
"""How long RabbitMQ may take to say that it has a message; other brokers say so at once."""

Throttles = Callable[[], Mapping[str, RateLimit]]


class Unsendable(errors.PermanentError):
    """No message can be made of a task's row, as of one that another version wrote."""

    status, title = 422, "Unsendable"

    template = "No message can be made of task {task_id!r}: {reason}"
    task_id: str
    reason: str


class TooLate(errors.BrokerUnavailable):
    """The sender's claim on the task's row had run out when the message came: nothing is queued."""


class Broker:
    """Sends tasks, and looks into queues."""

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that the application declared."""
        return tuple(declared)

    def __init__(self, app: Celery, *, max_queue_size: int, max_unread: int, throttles: Throttles = dict) -> None:
        """`throttles`: what operators want of queues, as it is written down now."""
        self._app, self._max_queue_size, self._max_unread = app, max_queue_size, max_unread
        self._throttles, self._silence = throttles, CircuitBreaker()
        self._bounded: set[str] = set()

    @contextmanager
    def asking(self) -> Generator[None]:
        """Ask the broker in this block. Raises the platform's errors; BrokerUnavailable at once while it is silent."""
        with self._silence.heeded(), named_errors():
            yield

    @cached_property
    def engine(self) -> Engine | None:
        """The delivery engine beneath, if it is."""
        if self._app.conf.broker_transport != TRANSPORT:
            return None
        settings = self._app.conf.broker_transport_options["connection"]
        return Engine.from_url(self._app.conf.broker_url, **settings)

    def publish(self, run: TaskRun, *, delay: float = 0, durability: Durability = Durability.MEMORY) -> None:
        """Hand one task to its queue, to be delivered `delay` seconds from now.

        Raises QueueFull, BrokerUnavailable, NotDurable (the message may be there all the same), Unsupported, and
        Unsendable. Without the engine there is no order by key and no limit; a delay passes in a worker's memory.
        """
        _check(run)
        if self.engine is None and unique_of(run):
            raise errors.Unsupported("uniqueness", self._app.conf.broker_url.partition(":")[0])
        if durability is not Durability.MEMORY and self.engine is None:
            raise errors.Unsupported(f"durability {durability.value!r}", self._app.conf.broker_url.partition(":")[0])
        with self.asking():
            self._bound(run.queue)
            self._send(run, delay, durability)

    def publish_many(self, runs: Sequence[TaskRun]) -> list[errors.PlatformError | None]:
        """Hand over many tasks, each in its time and in this order; for each what refused it, or None.

        Of an ordering key nothing is sent behind one that was refused. On the engine those of a queue go together, in
        one round trip for some hundreds.
        """
        refused: dict[str, errors.PlatformError | None] = {}
        held: dict[str | None, errors.PlatformError] = {}
        for group in _groups(runs, most=CHUNK if self.engine else 1):
            some = [run for run in group if run.key not in held]
            refused |= {run.id: held[run.key] for run in group if run.key in held}
            try:
                for run, outcome in self._publish_group(some) if len(some) > 1 else self._publish_each(some):
                    refused[run.id] = outcome
                    if run.key is not None and outcome is not None and not isinstance(outcome, Unsendable):
                        held.setdefault(run.key, outcome)
            except errors.BrokerUnavailable as error:  # the others would wait for it as long, and in vain
                return [refused.get(run.id, error) for run in runs]
        return [refused[run.id] for run in runs]

    def _publish_each(self, runs: Sequence[TaskRun]) -> Iterator[tuple[TaskRun, errors.PlatformError | None]]:
        for run in runs:
            refused = None
            try:
                self.publish(run, delay=time_left(run))
            except (errors.QueueFull, errors.HistoryBehind, errors.DuplicateTask, Unsendable) as error:
                refused = error
            yield run, refused

    def _publish_group(self, runs: Sequence[TaskRun]) -> Iterator[tuple[TaskRun, errors.PlatformError | None]]:
        engine, queue = self.must_throttle(), runs[0].queue
        with self.asking(), self._app.producer_pool.acquire(block=True) as producer:
            self._bound(queue)
            good, bad = list[TaskRun](), list[tuple[TaskRun, Unsendable]]()
            with producer.channel.collecting() as collected:
                for run in runs:
                    try:
                        _check(run)
                        self._send(run, time_left(run), Durability.MEMORY, producer=producer)
                    except Unsendable as error:
                        bad.append((run, error))
                    else:
                        good.append(run)
            until = min((run.published_at.timestamp() for run in good if run.published_at), default=None)
            outcomes = engine.put_many(
                queue, [one.message for one in collected], not_after=None if until is None else until + PUBLISH_WITHIN
            )
        yield from ((run, _refusal(outcome)) for run, outcome in zip(good, outcomes, strict=True))
        yield from bad

    def _send(self, run: TaskRun, delay: float, durability: Durability, **more: Any) -> None:
        options = _retries(run) | (self._options(run, durability) if self.engine else {})
        self._app.send_task(
            run.name,
            kwargs=run.payload,
            task_id=run.id,
            queue=run.queue,
            countdown=delay if delay > 0 else None,
            expires=run.expires_at,
            priority=self._priority(run.priority),
            retry=False,
            # Without this, Celery would subscribe to the result of each task that it sends, and never stop;
            # the header then tells the worker to store the result all the same.
            ignore_result=True,
            headers={"ignore_result": False, REQUEST_HEADER: run.request_id, **options},
            **self._confirming,
            **_limits(run),
            **more,
        )

    def _options(self, run: TaskRun, durability: Durability) -> dict[str, Any]:
        until = run.published_at.timestamp() + PUBLISH_WITHIN if run.published_at else None
        return message_options(key=run.key, unique=unique_of(run), durability=durability, once=True, not_after=until)

    def purge(self, queue: str) -> int:
        """Throw away what waits in a queue; gives back how many. Raises Unsupported without the engine."""
        if self.engine is None:
            raise errors.Unsupported("an emptied queue", self._app.conf.broker_url.partition(":")[0])
        with self.asking():
            return self.engine.purge(queue)

    def prepare(self) -> None:
        """Set the limits of all queues where they are missing: a broker that lost its data has lost them, too."""
        known = {stats.queue: stats for stats in self.stats(self.queues) or ()}
        for stats in known.values():
            if "journal" not in stats.limits or "max_size" not in stats.limits:
                self._bounded.discard(stats.queue)
        with self.asking():
            for queue in self.queues:
                self._bound(queue)
        for queue, throttle in self._throttles().items() if known else ():
            if queue in known and not throttle.holds(known[queue]):
                self.throttle(queue, throttle)

    def throttle(self, queue: str, throttle: RateLimit) -> None:
        """Have the queue keep this rate, number in flight and pause. Raises Unsupported without the engine."""
        engine = self.must_throttle()
        with self.asking():
            engine.throttle(queue, rate=throttle.per_second, burst=throttle.burst, max_in_flight=throttle.max_in_flight)
            (engine.pause if throttle.paused else engine.resume)(queue)

    def must_throttle(self) -> Engine:
        """The engine, without which there are no such limits. Raises Unsupported."""
        if self.engine is None:
            raise errors.Unsupported("limits of queues", self._app.conf.broker_url.partition(":")[0])
        return self.engine

    def cancel(self, queue: str, id: str) -> bool:
        """Take a waiting message away, mark one that is out. False when there is none, or no engine to ask."""
        if self.engine is None:
            return False
        with self.asking():
            cancelled = self.engine.cancel(queue, id)
        return bool(cancelled.removed or cancelled.marked)

    def discard(self, queue: str, id: str) -> None:
        """Throw a task's message away if the engine buried it."""
        if self.engine is not None:
            with self.asking():
                found = self.engine.find_many(queue, [id])[0]
                if found is not None and found.state is MessageState.DEAD:
                    self.engine.discard(queue, [found.stored.id])

    def forget_result(self, id: str) -> None:
        """Take a task's result out of Celery's result store: one that is run again would keep its first."""
        with named_errors(), suppress(NotImplementedError):  # some stores cannot
            self._app.backend.forget(id)

    def requeue(self, queue: str, id: str) -> bool:
        """Deliver a message again that the engine buried; False when it is not there any more."""
        if self.engine is None:
            return False
        with self.asking():
            found = self.engine.find_many(queue, [id])[0]
            if found is None or found.state is not MessageState.DEAD:
                return False
            return self.engine.requeue(queue, [found.stored.id]) == [LeaseStatus.DONE]

    def find(self, queue: str, ids: Sequence[str]) -> list[MessageInfo | None] | None:
        """Where these tasks are; None for those that the queue does not know. None at all without the engine."""
        if self.engine is None:
            return None
        with self.asking():
            return self.engine.find_many(queue, ids)

    def stats(self, queues: Sequence[str]) -> list[QueueStats] | None:
        """The sizes and limits of queues; None without the engine."""
        if self.engine is None:
            return None
        with self.asking():
            return self.engine.stats(queues)

    def ping(self) -> None:
        """Raise BrokerUnavailable unless the broker answers."""
        with self.asking(), self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)

    def close(self) -> None:
        """Give back the connections of this process."""
        if "engine" in self.__dict__ and self.engine is not None:
            self.engine.close()

    def _bound(self, queue: str) -> None:
        """Give the queue its limits, once in a process: another process may have other settings."""
        if self.engine is not None and queue not in self._bounded:
            self.engine.set_max_size(queue, self._max_queue_size)
            self.engine.enable_journal(queue, self._max_unread)
            self._bounded.add(queue)

    @cached_property
    def _confirming(self) -> dict[str, Any]:
        asked: Any = self._app.conf.broker_transport_options.get("confirm_publish")
        return {"confirm_timeout": CONFIRM_SECONDS} if asked else {}

    @cached_property
    def _zero_goes_first(self) -> bool:
        transport: Any = self._app.connection_for_write().get_transport_cls()
        return self.engine is None and transport.driver_type == "redis"

    def _priority(self, priority: int) -> int:
        """Ours (3 goes first) in the transport's scale: in kombu's Redis transport 0 goes first, elsewhere 9."""
        return 9 - 3 * priority if self._zero_goes_first else 3 * priority


def _groups(runs: Sequence[TaskRun], *, most: int) -> Iterator[list[TaskRun]]:
    """Those of one queue that follow each other, not more than so many: in one call of the engine they are refused
    from one on, or not at all."""
    for _, group in groupby(runs, key=lambda run: run.queue):
        while some := list(islice(group, most)):
            yield some


def _check(run: TaskRun) -> None:
    """Raise Unsendable for a row of another shape. What goes wrong at the sending is never the row's fault."""
    payload: Any = run.payload
    try:
        unique: Any = unique_of(run)
        _retries(run)
        _limits(run)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise Unsendable(run.id, f"{type(error).__name__}: {error}"[:500]) from error
    if not isinstance(payload, dict):
        raise Unsendable(run.id, "its payload is no object")
    if unique and not (isinstance(unique.key, str) and isinstance(unique.ttl_ms, int)):
        raise Unsendable(run.id, "its uniqueness is none")


def _retries(run: TaskRun) -> dict[str, Any]:
    own = run.options.get("max_retries")
    return {} if own is None else {RETRIES_HEADER: own}


def _limits(run: TaskRun) -> dict[str, Any]:
    """The time limits of a task that was submitted with one of its own, as Celery has them."""
    limit = run.options.get("time_limit")
    return {} if limit is None else {"soft_time_limit": limit, "time_limit": limit + KILL_AFTER}


def time_left(run: TaskRun) -> float:
    """Seconds until a task is due; not more than none if it is."""
    return (run.due_at - clock.now()).total_seconds() if run.due_at else 0


def _refusal(outcome: PutResult) -> errors.PlatformError | None:
    """Why a message was not queued. One of a task that was cancelled meanwhile is not needed any more."""
    if outcome.code is PutCode.FULL:
        return errors.QueueFull(outcome.queue, outcome.size)
    if outcome.code is PutCode.JOURNAL_FULL:
        return errors.HistoryBehind(outcome.queue, outcome.size)
    if outcome.code is PutCode.DUPLICATE:
        return errors.DuplicateTask(outcome.existing)
    if outcome.code is PutCode.TOO_LATE:
        return TooLate(f"the message came {outcome.late_ms} ms too late")
    return None


@contextmanager
def named_errors() -> Generator[None]:
    """Celery's, kombu's and the engine's errors as the platform's."""
    try:
        yield
    except engine_errors.QueueFull as error:
        raise errors.QueueFull(error.queue, error.size) from error
    except engine_errors.DuplicateTask as error:
        raise errors.DuplicateTask(error.existing) from error
    except engine_errors.JournalFull as error:
        raise errors.HistoryBehind(error.queue, error.unread) from error
    except engine_errors.TooLate as error:
        raise TooLate(f"the message came {1000 * error.late:.0f} ms too late") from error
    except engine_errors.NotDurable as error:
        raise errors.NotDurable(error.durability) from error
    except engine_errors.DurabilityUnavailable as error:
        raise errors.Unsupported(f"durability {error.durability!r}", error.reason) from error
    except (KombuError, RedisError, engine_errors.EngineError, OSError) as error:
        raise errors.BrokerUnavailable(URL_LOGIN.sub("", str(error)) or type(error).__name__) from error
