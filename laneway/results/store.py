"""Stores the results of tasks on the server, in groups with the acks of the tasks.

A result is one string under Celery's own key and in Celery's own form, so that stock clients and Flower can read it.
Its key is also the channel on which every new state is published. A script stores the state. It first compares it with
the stored state, so that a late message from a lost worker changes nothing.

Results are committed in groups with the acks (`laneway.engine.before_ack`). While a process buffers, final states wait
in memory until the acks are sent. Before a read, the count of a chord's part, or a state that is not final, the waiting
states are sent. A process that does not buffer stores each result at once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from redis.connection import ConnectionPool
from redis.exceptions import ResponseError

from laneway.engine import before_ack
from laneway.engine.connection import Argument, Command, Reply
from laneway.engine.errors import EngineError, ServerLost
from laneway.engine.replies import StoreCode
from laneway.engine.script_loader import Script, load_script
from laneway.engine.script_runner import ScriptRunner

logger = logging.getLogger(__name__)
GROUP_SIZE = 64
"""The most results in one script call. When this many wait, they are sent without waiting for an ack."""
MAX_HANDED_OVER = 16_384
"""The longest result, in bytes, that a child sends to its parent through the pipe. It stores longer ones itself."""
MAX_SWAPS = 8


class ResultUnsettled(EngineError):
    """Another client changed the result during each attempt to store it."""

    retryable = True

    template = "The result {key!r} changed each time it was read, so it was not stored."
    key: str


class Record(NamedTuple):
    """An encoded state of a task.

    `seconds`: how long it is kept; 0: for ever. `final`: the task has finished. `immediate`: store it at once, not in a
    group. `fire_and_forget`: send it without waiting for the server's reply.
    """

    key: bytes
    payload: bytes
    seconds: int
    final: bool
    immediate: bool = False
    fire_and_forget: bool = False


class ResultStore:
    """The results under one URL. Thread-safe, and usable after a fork."""

    def __init__(self, pool: ConnectionPool, *, status_of: Callable[[bytes], str]) -> None:
        """`status_of` reads the state of a stored payload that the script cannot read, such as a compressed one."""
        self._runner = ScriptRunner(pool)
        self._status_of = status_of
        self._buffer: deque[Record] = deque()
        self._flushing = threading.Lock()
        self._pid = os.getpid()
        before_ack.register(self)

    def buffer(self, record: Record) -> None:
        """Add the record to the next group, however many wait. If the server is away, the record waits; no error."""
        self._reset_after_fork()
        self._buffer.append(record)
        wake = before_ack.buffering_wakeup()
        if wake is not None:
            wake()
            return
        try:
            self.flush()
        except ServerLost as error:
            logger.warning("A result waits until the server is back: %s", error)

    def store_now(self, record: Record) -> None:
        """Store the record at once, not in a group."""
        self._send_group([record])

    def store(self, record: Record) -> None:
        """Store the record.

        A final record is added to the next group instead if this process buffers, or is handed over to another process
        (`hand_over_result`).
        """
        if _handover is not None and _handover.accept(self, record):
            return
        wake = before_ack.buffering_wakeup()
        if record.fire_and_forget:
            self.flush()
            self._runner.post(_STORE, _store_command([record]))
            return
        if wake is None or record.immediate or not record.final:
            self.flush()
            self._send([record])
            return
        self._reset_after_fork()
        if len(self._buffer) >= GROUP_SIZE:
            self.flush()
        self._buffer.append(record)
        wake()

    def flush(self) -> None:
        """Send the records that wait; keep them if that fails. Raises ServerLost, or the server's error.

        When it returns, all records that waited are stored, including those that another thread was sending.
        """
        self._reset_after_fork()
        if _handover is not None:
            _handover.store_here()
        if not self._buffer and not self._flushing.locked():
            return
        with self._flushing:
            while self._buffer:
                group = [self._buffer.popleft() for _ in range(min(GROUP_SIZE, len(self._buffer)))]
                try:
                    self._send_group(group)
                except BaseException:
                    self._buffer.extendleft(reversed(group))
                    raise

    def get(self, key: bytes) -> bytes | None:
        """The stored payload."""
        return self.call("GET", key)

    def call(self, *command: Argument) -> Reply:
        """Flush, then send one command; return its reply."""
        self.flush()
        return self._runner.call(*command)

    def increment(self, key: bytes) -> int:
        """Flush, then add one to a counter, once even if the reply is lost; return the new count."""
        self.flush()
        return self._runner.call_once(key, "INCR", (key,))

    def pipeline(self, *commands: Command) -> list[Reply]:
        """Flush, then send commands in one round trip; return their replies. Raises the first error reply."""
        self.flush()
        replies = self._runner.pipeline(commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    def evaluate(self, script: Script, keys: Sequence[Argument], args: Sequence[Argument]) -> Reply:
        """Flush, then run a script that may run twice without harm; return its reply."""
        self.flush()
        command = (b"EVALSHA", script.sha, len(keys), *keys, *args)
        return self._run(script, command)

    @property
    def pool(self) -> ConnectionPool:
        """How to connect to the server."""
        return self._runner.pool

    def _run(self, script: Script, command: Command) -> Reply:
        return self._runner.on_connection(lambda connection: self._runner.evaluate(connection, script, command))

    def _send(self, group: list[Record]) -> None:
        command = _store_command(group)
        codes: list[int] = self._runner.on_connection(
            lambda connection: self._runner.evaluate(connection, _STORE, command)
        )
        if StoreCode.UNREADABLE in codes:
            for record, code in zip(group, codes, strict=True):
                if code == StoreCode.UNREADABLE:
                    self._compare_and_swap(record)

    def _send_group(self, group: list[Record]) -> None:
        try:
            self._send(group)
        except ResponseError:
            for record in group:
                self._send_or_drop(record)

    def _send_or_drop(self, record: Record) -> None:
        try:
            self._send([record])
        except ResponseError as error:
            logger.error("The result %r cannot be stored: %s", record.key, error)

    def _compare_and_swap(self, record: Record) -> None:
        """Replace a payload whose state the script cannot read. Raises ResultUnsettled after `MAX_SWAPS` attempts."""
        for _ in range(MAX_SWAPS):
            before = self._runner.call("GET", record.key)
            if before is None:
                self._send([record])
                return
            status = self._status_of(before)
            if status == "SUCCESS" or (not record.final and status in ("FAILURE", "REVOKED")):
                return
            command = (b"EVALSHA", _SWAP.sha, 1, record.key, before, record.payload, record.seconds)
            if self._runner.on_connection(
                lambda connection, command=command: self._runner.evaluate(connection, _SWAP, command)
            ):
                return
        raise ResultUnsettled(record.key.decode(errors="replace"))

    def _reset_after_fork(self) -> None:
        if self._pid != os.getpid():  # the records that waited in the parent are sent by the parent
            self._pid, self._buffer, self._flushing = os.getpid(), deque(), threading.Lock()


def _store_command(group: Sequence[Record]) -> Command:
    args: list[Argument] = []
    for record in group:
        args += (record.payload, record.seconds, int(record.final))
    return (b"EVALSHA", _STORE.sha, len(group), *(record.key for record in group), *args)


class Handover:
    """Keeps the final state of one task, so that another process can store it."""

    def __init__(self, task_id: str) -> None:
        self._key_end, self._pid = task_id.encode(), os.getpid()
        self._store: ResultStore | None = None
        self.records: list[Record] = []

    def accept(self, store: ResultStore, record: Record) -> bool:
        """Keep the record if it is the task's final state and short enough; False: the caller stores it."""
        fits = record.final and not record.immediate and len(record.payload) <= MAX_HANDED_OVER
        if not fits or not record.key.endswith(self._key_end) or self._pid != os.getpid():
            return False
        self._store = store
        self.records.append(record)
        return True

    def store_here(self) -> None:
        """Store the kept records in this process."""
        while self._store and self.records:
            self._store.store_now(self.records[0])
            del self.records[0]


@contextmanager
def hand_over_result(task_id: str) -> Generator[Handover]:
    """Put the final state of this task into `records` instead of storing it, so that another process can store it.

    Use it only in a process that runs one task at a time. The state is stored here after all if this process reads a
    result, or if the block raises.
    """
    global _handover  # noqa: PLW0603 - one task at a time
    handover = _handover = Handover(task_id)
    try:
        yield handover
    except BaseException:
        handover.store_here()
        raise
    finally:
        _handover = None


_STORE, _SWAP = load_script("store_results"), load_script("swap_result")
_handover: Handover | None = None
