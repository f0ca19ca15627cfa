"""Waits for results on one connection per process, however many threads wait.

The connection uses RESP3, so that it can both subscribe to results and read them. When a thread begins to wait,
`SUBSCRIBE` and `MGET` are sent together. The reply to `MGET` contains the results that were stored before. Nothing is
sent when a task is published or a result object is deleted: changed subscriptions are sent at the next wait.

One of the waiting threads reads the connection and hands out the results to all of them. When its own result has come,
it wakes another thread, which then reads.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast

import hiredis
from celery import states
from celery.backends.asynchronous import BaseResultConsumer, Drainer, detect_environment
from celery.exceptions import TimeoutError as CeleryTimeout
from redis.exceptions import ResponseError

from laneway.engine.connection import RawConnection
from laneway.engine.errors import ServerLost
from laneway.engine.readable import wait_until_readable
from laneway.results.store import ResultStore

_pack = cast("Callable[[tuple[bytes, ...]], bytes]", hiredis.pack_command)  # its stub allows one part only
logger = logging.getLogger(__name__)
MAX_KEYS = 1000
"""Keys in one command."""
CHECK_SECONDS = 1.0
"""A waiting thread wakes at least this often, for example to call `on_interval`."""
GRACE_SECONDS = 5.0
"""A wait may exceed its timeout by this much while the server has not yet replied to the MGET."""
PING_SECONDS = 15.0
"""When nothing has come for this long, a PING checks whether the server still replies."""
REPLY_SECONDS = 10.0
"""A connection on which a reply takes longer is replaced: the server is gone and did not close it."""
MAX_UNSENT = 1000
"""The reading thread itself sends changed subscriptions when more than this many are unsent."""
MAX_STALE = 100
"""Ended tasks are unsubscribed in groups of more than this many."""
MAX_FAILURES = 20
"""After more than this many failures in a row, a wait raises ServerLost."""


class Backend(Protocol):
    """What the consumer needs of the result backend that owns it."""

    @property
    def results(self) -> ResultStore:
        """Where results are stored."""
        ...

    def get_key_for_task(self, task_id: str, key: str = "") -> bytes:
        """The key and the channel of a task's result."""
        ...

    def decode_result(self, payload: Any) -> dict[str, Any]:
        """The state of a task from its stored payload."""
        ...

    def waiting_for(self, task_id: str) -> list[Any]:
        """The result objects that wait for this task."""
        ...

    def stop_waiting(self, task_id: str) -> None:
        """Cancel the subscription, unless another thread has begun to wait meanwhile."""
        ...


class Subscription(RawConnection):
    """A connection that sends commands without waiting, and receives replies and published messages mixed."""

    def send_all(self, commands: Sequence[tuple[bytes, ...]]) -> None:
        """Send several commands in one write."""
        self._write(b"".join(_pack(command) for command in commands))


class ResultConsumer(BaseResultConsumer):
    """Receives the results that threads wait for, on one connection. Thread-safe, usable after a fork."""

    def __init__(self, backend: Backend, *args: Any) -> None:
        super().__init__(backend, *args)
        self.backend: Backend = backend
        if detect_environment() == "default":
            self.drainer = ThreadDrainer(self)
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._connection: Subscription | None = None
        self._writing, self._reading = threading.RLock(), threading.Lock()
        self._wanted: set[str] = set()
        self._changed: deque[str] = deque()
        self._subscribed: set[str] = set()
        self._requests = self._replies = 0
        self._requested_at = self._received_at = 0.0  # monotonic seconds
        self._waiters: dict[threading.Event, Any] = {}
        self._listeners: dict[object, tuple[set[str], Callable[[dict[str, Any]], None]]] = {}
        self._collectors: dict[int, list[deque[Any]]] = {}
        self._failures = 0

    def on_after_fork(self) -> None:
        """Start anew in a forked child, because the connection belongs to its parent."""
        self._reset()

    def start(self, initial_task_id: str, **_: Any) -> None:
        """Subscribe to this task at the next wait."""
        self.consume_from(initial_task_id)

    def stop(self) -> None:
        """Close the connection; the next wait opens another."""
        with self._writing:
            self._disconnect()

    def consume_from(self, task_id: str) -> None:
        """Subscribe to this task at the next wait."""
        self._reset_after_fork()
        self._wanted.add(task_id)
        self._changed.append(task_id)

    def cancel_for(self, task_id: str) -> None:
        """Stop waiting for this task. Uses no lock and no socket: the garbage collector may call it at any point."""
        if task_id in self._wanted:
            self._wanted.discard(task_id)
            self._changed.append(task_id)

    def on_wait_for_pending(self, result: Any, timeout: float | None = None, **_: Any) -> None:
        """Called before a wait: subscribe to new tasks and request their stored results."""
        del result, timeout
        self._retry_later(self.send_changes)

    def collect(self, result: Any, bucket: deque[Any]) -> None:
        """Put this result object into the bucket when it is ready. It may be put twice."""
        self._collectors.setdefault(id(result), []).append(bucket)
        if result._cache:
            bucket.append(result)

    def stop_collecting(self, results: Sequence[Any], bucket: deque[Any]) -> None:
        """End `collect` for these objects and this bucket."""
        for result in results:
            others = [other for other in self._collectors.pop(id(result), ()) if other is not bucket]
            if others:
                self._collectors[id(result)] = others

    def _wait_for_pending(
        self, result: Any, timeout: float | None = None, on_interval: Any = None, on_message: Any = None, **_: Any
    ) -> Iterator[None]:
        self.on_wait_for_pending(result)
        ticket = object()
        if on_message:
            self._listeners[ticket] = (set(_ids(result)), on_message)
        try:
            yield from self.drain_events_until(result.on_ready, timeout=timeout, on_interval=on_interval)
        except TimeoutError as error:
            raise CeleryTimeout("The operation timed out.") from error
        finally:
            self._listeners.pop(ticket, None)

    @property
    def lookups(self) -> tuple[int, int]:
        """How many requests (MGET and PING) were sent, and how many replies have come."""
        return self._requests, self._replies

    def drain_events(self, timeout: float | None = None) -> None:
        """Read and handle what comes within `timeout` seconds."""
        self.wait(None, CHECK_SECONDS if timeout is None else timeout)

    def wait(self, done: Any, seconds: float) -> None:
        """Wait until something has come, `done.ready` is true, or the time is over. Read if no other thread reads."""
        self._reset_after_fork()
        if self._reading.acquire(blocking=False):
            self._read_for_all(seconds)
            return
        event = threading.Event()
        self._waiters[event] = done
        try:
            if self._reading.acquire(blocking=False):  # the reading thread stopped before it could see this event
                self._read_for_all(seconds)
            else:
                event.wait(seconds)
        finally:
            self._waiters.pop(event, None)

    def on_state_change(self, meta: dict[str, Any], message: Any) -> None:
        """Hand a state to everyone who waits for it. Other states are not kept, because they can be read again."""
        del message
        task_id: str = meta["task_id"]
        for ids, listener in list(self._listeners.values()):
            if task_id in ids:
                listener(meta)
        if meta["status"] not in states.READY_STATES:
            return
        for result in self.backend.waiting_for(task_id):
            result._maybe_set_cache(meta)
            for bucket in self._collectors.get(id(result), ()):
                bucket.append(result)
        self.backend.stop_waiting(task_id)

    def send_changes(self) -> None:
        """Send the subscriptions that changed since the last call. Raises ServerLost."""
        self._reset_after_fork()
        with self._writing:
            connection = self._connection or self._connect()
            changed: set[str] = set()
            while self._changed:
                changed.add(self._changed.popleft())
            to_subscribe = [id for id in changed if id in self._wanted]
            if to_subscribe:
                self.backend.results.flush()  # the MGET must find the results that wait in this process
            to_unsubscribe: list[str] = []
            if len(self._subscribed) - len(self._wanted) > MAX_STALE:  # not before: an ended task publishes nothing
                to_unsubscribe = list(self._subscribed - self._wanted)
            try:
                self._send_subscriptions(connection, to_subscribe, to_unsubscribe)
            except ServerLost:
                self._disconnect()
                raise

    def _send_subscriptions(self, connection: Subscription, to_subscribe: list[str], to_unsubscribe: list[str]) -> None:
        key = self.backend.get_key_for_task
        commands: list[tuple[bytes, ...]] = []
        for part in _parts(to_unsubscribe):
            commands.append((b"UNSUBSCRIBE", *map(key, part)))
            self._subscribed.difference_update(part)
        for part in _parts(to_subscribe):
            keys = [key(id) for id in part]
            commands += [(b"SUBSCRIBE", *keys), (b"MGET", *keys)]
            self._requests += 1
            self._subscribed.update(part)
        if commands:
            self._requested_at = time.monotonic()
            connection.send_all(commands)

    def _connect(self) -> Subscription:
        connection = Subscription(self.backend.results.pool)
        connection.call("HELLO", 3)
        self._replies = self._requests  # requests without a reply on the old connection are sent again
        self._subscribed.clear()
        self._changed.extend(self._wanted.copy())
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def _read_for_all(self, seconds: float) -> None:
        """Read once in this thread, which holds `_reading`. Then wake the thread that reads next."""
        try:
            self._retry_later(self._read, seconds)
        finally:
            self._reading.release()
            successor = next(iter(list(self._waiters)), None)
            if successor:
                successor.set()

    def _read(self, seconds: float) -> None:
        if self._connection is None or len(self._changed) > MAX_UNSENT:
            self.send_changes()
        connection = self._connection
        if connection is None or connection.closed:
            raise ServerLost("closed")
        if not connection.buffered and not wait_until_readable([connection.fileno()], seconds):
            self._check_silence(connection)
            return
        self._dispatch(connection.receive())
        while connection.buffered:
            self._dispatch(connection.receive())
        self._failures, self._received_at = 0, time.monotonic()
        for waiter, done in list(self._waiters.items()):
            if done is not None and done.ready:
                waiter.set()

    def _check_silence(self, connection: Subscription) -> None:
        """Send a PING when nothing has come for long. Raises ServerLost when a reply is overdue."""
        now = time.monotonic()
        silence = now - max(self._requested_at, self._received_at)
        if self._requests > self._replies:
            if silence > REPLY_SECONDS:
                raise ServerLost("no answer")
        elif silence > PING_SECONDS:
            with self._writing:
                self._requests, self._requested_at = self._requests + 1, now
                connection.send((b"PING",))

    def _dispatch(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            kind, *rest = cast("list[Any]", reply)
            if kind == b"message":
                self._hand_out(rest[1])
            return
        self._replies += 1
        if isinstance(reply, ResponseError):
            raise reply
        if not isinstance(reply, list):  # the reply to PING
            return
        for payload in cast("list[bytes | None]", reply):
            if payload is not None:
                self._hand_out(payload)

    def _hand_out(self, payload: bytes) -> None:
        try:
            meta: Any = self.backend.decode_result(payload)
        except Exception:
            logger.exception("A result cannot be read")
            return
        self.on_state_change(meta, None)

    def _retry_later(self, act: Any, *args: Any) -> None:
        """Call `act`. If the server is away, pause and return, so that the caller retries; see `MAX_FAILURES`."""
        try:
            act(*args)
        except ServerLost as error:
            with self._writing:
                self._disconnect()
            self._failures += 1
            if self._failures > MAX_FAILURES:
                self._failures = 0
                raise
            logger.warning("The connection for results broke (%s); trying again", error.reason)
            time.sleep(min(1.0, 0.05 * self._failures))

    def _reset_after_fork(self) -> None:
        if self._pid != os.getpid():
            self._reset()


class ThreadDrainer(Drainer):
    """Waits in the calling thread itself, exactly until the timeout."""

    result_consumer: ResultConsumer

    def drain_events_until(
        self, p: Any, timeout: float | None = None, interval: float = 1, on_interval: Any = None, wait: Any = None
    ) -> Iterator[None]:
        """Wait until `p.ready`. Raises TimeoutError, but first waits for the reply to the MGET (`GRACE_SECONDS`)."""
        del interval, wait
        consumer = self.result_consumer
        deadline = None if timeout is None else time.monotonic() + timeout
        requests = consumer.lookups[0]
        while not p.ready:
            left = CHECK_SECONDS if deadline is None else min(CHECK_SECONDS, deadline - time.monotonic())
            if left <= 0:
                if consumer.lookups[1] >= requests or left < -GRACE_SECONDS:
                    raise TimeoutError
                left = 0.05
            yield consumer.wait(p, left)
            if on_interval:
                on_interval()


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), MAX_KEYS):
        yield ids[start : start + MAX_KEYS]


def _ids(result: Any) -> Iterator[str]:
    members = getattr(result, "results", None)
    if members is None:
        yield result.id
    else:
        for member in members:
            yield from _ids(member)
