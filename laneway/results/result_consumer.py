"""Waiting for results: one connection a process, however many threads wait.

It speaks RESP3, so that one connection can both subscribe to results and read them: for what a thread
begins to wait for, `SUBSCRIBE` and `MGET` go out together, and a result that was stored before comes back
as the answer of the second. Nothing is sent when a task is published or a result object is thrown away;
changes gather until somebody waits.

One of the waiting threads reads and hands out what comes for all of them; when its own result is there
it wakes another one to read on.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import hiredis
from celery import states
from celery.backends.asynchronous import BaseResultConsumer, Drainer, detect_environment
from celery.exceptions import TimeoutError as CeleryTimeout
from redis.exceptions import ResponseError

from laneway.engine.connection import RawConnection
from laneway.engine.errors import ServerLost

if TYPE_CHECKING:
    from laneway.results.backend import ResultBackend

_pack = cast("Callable[[tuple[bytes, ...]], bytes]", hiredis.pack_command)  # its stub allows one part only
logger = logging.getLogger(__name__)
KEYS_A_COMMAND = 1000
LOOK_SECONDS = 1.0
"""The longest a thread waits without looking up, as for `on_interval`."""
GRACE_SECONDS = 5.0
"""How much longer than asked a wait may take because the server has not yet said what is stored."""
PING_SECONDS = 15.0
"""After so long a silence the server is asked whether it is still there."""
ANSWER_SECONDS = 10.0
"""A connection on which an answer takes longer is replaced: the other end is gone, and nobody said so."""
UNSENT = 1000
STALE = 100
"""Subscriptions to tasks that have ended are given up in groups of more than this many."""
MAX_FAILURES = 20


class Subscription(RawConnection):
    """A connection on which commands are sent without waiting, and replies and messages come mixed."""

    def send_all(self, commands: Sequence[tuple[bytes, ...]]) -> None:
        """In one go."""
        self._write(b"".join(_pack(command) for command in commands))


class ResultConsumer(BaseResultConsumer):
    """Which results are waited for, and the connection on which they come. Thread-safe, usable after a fork."""

    def __init__(self, backend: ResultBackend, *args: Any) -> None:
        super().__init__(backend, *args)
        self.backend: ResultBackend = backend
        if detect_environment() == "default":
            self.drainer = ThreadDrainer(self)
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._wire: Subscription | None = None
        self._writing, self._reading = threading.RLock(), threading.Lock()
        self._wanted: set[str] = set()
        self._changed: deque[str] = deque()
        self._subscribed: set[str] = set()
        self._asked = self._answered = 0
        self._heard_at = self._asked_at = 0.0  # monotonic seconds
        self._followers: dict[threading.Event, Any] = {}
        self._listeners: dict[object, tuple[set[str], Callable[[dict[str, Any]], None]]] = {}
        self._collectors: dict[int, list[deque[Any]]] = {}
        self._failures = 0

    def on_after_fork(self) -> None:
        """A child begins anew; the connection is its parent's."""
        self._reset()

    def start(self, initial_task_id: str, **_: Any) -> None:
        """As `consume_from`."""
        self.consume_from(initial_task_id)

    def stop(self) -> None:
        """Close the connection; it comes back when somebody waits."""
        with self._writing:
            self._lost()

    def consume_from(self, task_id: str) -> None:
        """Listen for this task's states from the next wait on."""
        self._own()
        self._wanted.add(task_id)
        self._changed.append(task_id)

    def cancel_for(self, task_id: str) -> None:
        """Listen no longer. Touches no lock and no socket: the garbage collector calls it anywhere."""
        if task_id in self._wanted:
            self._wanted.discard(task_id)
            self._changed.append(task_id)

    def on_wait_for_pending(self, result: Any, timeout: float | None = None, **_: Any) -> None:
        """Before a wait: subscribe to what is new in it, and ask for what is stored."""
        del result, timeout
        self._try(self.send_changes)

    def collect(self, result: Any, bucket: deque[Any]) -> None:
        """Put this result object into the bucket when it is ready; perhaps twice."""
        self._collectors.setdefault(id(result), []).append(bucket)
        if result._cache:
            bucket.append(result)

    def collect_no_more(self, results: Sequence[Any], bucket: deque[Any]) -> None:
        """The end of `collect` for these objects and this bucket."""
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
        """How often the server was asked for stored results, and how often it has answered."""
        return self._asked, self._answered

    def drain_events(self, timeout: float | None = None) -> None:
        """Take in what comes within `timeout` seconds."""
        self.wait(None, LOOK_SECONDS if timeout is None else timeout)

    def wait(self, done: Any, seconds: float) -> None:
        """Until something came, `done.ready`, or the time is over: by reading, or while another thread reads."""
        self._own()
        if self._reading.acquire(blocking=False):
            self._take_turn(seconds)
            return
        event = threading.Event()
        self._followers[event] = done
        try:
            if self._reading.acquire(blocking=False):  # the reader left while we queued up
                self._take_turn(seconds)
            else:
                event.wait(seconds)
        finally:
            self._followers.pop(event, None)

    def on_state_change(self, meta: dict[str, Any], message: Any) -> None:
        """Give a state to whoever waits for it. What nobody waits for is not kept: it can be read again."""
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
        """Send the subscriptions that changed since the last time. Raises ServerLost."""
        self._own()
        with self._writing:
            wire = self._wire or self._connect()
            changed: set[str] = set()
            while self._changed:
                changed.add(self._changed.popleft())
            joined = [id for id in changed if id in self._wanted]
            left: list[str] = []
            if len(self._subscribed) - len(self._wanted) > STALE:  # an ended task publishes nothing: no hurry
                left = list(self._subscribed - self._wanted)
            try:
                self._announce(wire, joined, left)
            except ServerLost:
                self._lost()
                raise

    def _announce(self, wire: Subscription, joined: list[str], left: list[str]) -> None:
        key = self.backend.get_key_for_task
        commands: list[tuple[bytes, ...]] = []
        for part in _parts(left):
            commands.append((b"UNSUBSCRIBE", *map(key, part)))
            self._subscribed.difference_update(part)
        for part in _parts(joined):
            keys = [key(id) for id in part]
            commands += [(b"SUBSCRIBE", *keys), (b"MGET", *keys)]
            self._asked += 1
            self._subscribed.update(part)
        if commands:
            self._asked_at = time.monotonic()
            wire.send_all(commands)

    def _connect(self) -> Subscription:
        self.backend.results.flush()
        wire = Subscription(self.backend.results.pool)
        wire.call("HELLO", 3)
        self._answered = self._asked  # what the old connection was asked is asked again
        self._subscribed.clear()
        self._changed.extend(self._wanted.copy())
        self._wire = wire
        return wire

    def _lost(self) -> None:
        wire, self._wire = self._wire, None
        if wire:
            wire.close()

    def _take_turn(self, seconds: float) -> None:
        try:
            self._try(self._read, seconds)
        finally:
            self._reading.release()
            successor = next(iter(list(self._followers)), None)
            if successor:
                successor.set()

    def _read(self, seconds: float) -> None:
        if self._wire is None or len(self._changed) > UNSENT:
            self.send_changes()
        wire = self._wire
        if wire is None or wire.closed:
            raise ServerLost("closed")
        if not wire.buffered and not _readable(wire.fileno(), seconds):
            self._check(wire)
            return
        self._dispatch(wire.receive())
        while wire.buffered:
            self._dispatch(wire.receive())
        self._failures, self._heard_at = 0, time.monotonic()
        for follower, done in list(self._followers.items()):
            if done is not None and done.ready:
                follower.set()

    def _check(self, wire: Subscription) -> None:
        now = time.monotonic()
        if self._asked > self._answered:
            if now - max(self._asked_at, self._heard_at) > ANSWER_SECONDS:
                raise ServerLost("no answer")
        elif now - max(self._asked_at, self._heard_at) > PING_SECONDS:
            with self._writing:
                self._asked, self._asked_at = self._asked + 1, now
                wire.send((b"PING",))

    def _dispatch(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            kind, *rest = cast("list[Any]", reply)
            if kind == b"message":
                self._hand_out(rest[1])
            return
        self._answered += 1
        if isinstance(reply, ResponseError):
            raise reply
        if not isinstance(reply, list):  # to PING
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

    def _try(self, act: Any, *args: Any) -> None:
        """Do it; when the server is away, try again later, but not for ever."""
        try:
            act(*args)
        except ServerLost as error:
            with self._writing:
                self._lost()
            self._failures += 1
            if self._failures > MAX_FAILURES:
                self._failures = 0
                raise
            logger.warning("The connection for results broke (%s); trying again", error.reason)
            time.sleep(min(1.0, 0.05 * self._failures))

    def _own(self) -> None:
        if self._pid != os.getpid():
            self._reset()


class ThreadDrainer(Drainer):
    """Waits in the waiting thread itself, to the moment when its time is over."""

    result_consumer: ResultConsumer

    def drain_events_until(
        self, p: Any, timeout: float | None = None, interval: float = 1, on_interval: Any = None, wait: Any = None
    ) -> Iterator[None]:
        """Until `p.ready`; raises TimeoutError, but not before the server has said what was stored already."""
        del interval, wait
        consumer = self.result_consumer
        deadline = None if timeout is None else time.monotonic() + timeout
        asked = consumer.lookups[0]
        while not p.ready:
            left = LOOK_SECONDS if deadline is None else min(LOOK_SECONDS, deadline - time.monotonic())
            if left <= 0:
                if consumer.lookups[1] >= asked or left < -GRACE_SECONDS:
                    raise TimeoutError
                left = 0.05
            yield consumer.wait(p, left)
            if on_interval:
                on_interval()


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), KEYS_A_COMMAND):
        yield ids[start : start + KEYS_A_COMMAND]


def _readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()  # looked up each time: gevent puts its own in place
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _ids(result: Any) -> Iterator[str]:
    members = getattr(result, "results", None)
    if members is None:
        yield result.id
    else:
        for member in members:
            yield from _ids(member)
