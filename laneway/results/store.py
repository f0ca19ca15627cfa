"""The results of tasks on the server, and their group commit with the acks.

A result is one string under Celery's own key and in Celery's own form, so that stock clients and Flower
read it; its key is also the channel on which every new state is published. Storing is one script that
looks at what is there, so that a late message from a lost worker changes nothing.

Group commit. A task may be acked only after its result is stored, but results need not be sent one by
one. Whoever sends a worker's acks calls `gather` once in its process; from then on final states wait in
memory, and it must call `flush_results` before each group of acks, and within some milliseconds after
`wake` was called:

    gather(wake)        # once, in the process that acks; a fork's child starts without
    flush_results()     # results first; raises ServerLost: send no acks then, and call it again later
    engine.ack(group)   # then the acks

Everything else happens by itself: whoever reads a result, counts a chord's part or stores a state that
is not final sends what waits first. A process that does not call `gather` stores each result at once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar
from weakref import WeakSet

from redis.connection import ConnectionPool
from redis.exceptions import ResponseError

from laneway.engine.connection import Argument, Command, Reply
from laneway.engine.errors import EngineError, ServerLost
from laneway.engine.replies import StoreCode
from laneway.engine.script_loader import Script, load_script
from laneway.engine.script_runner import ScriptRunner

T = TypeVar("T")
logger = logging.getLogger(__name__)
GROUP = 64
"""Results in one script call; as many waiting results are sent without waiting for an ack."""
MAX_HANDED_OVER = 16_384
"""Bytes of a result that goes through the pipe to a parent process; a larger one is stored where it was made."""
SWAPS = 8
_PASSING = ("OOM", "MISCONF", "NOREPLICAS", "BUSY", "CLUSTERDOWN", "TRYAGAIN")


class ResultUnsettled(EngineError):
    """Others kept changing the result while it was to be stored."""

    retryable = True

    template = "The result {key!r} changed each time it was read, so it was not stored."
    key: str


class Record(NamedTuple):
    """A state of a task, encoded. `seconds`: how long it is kept, 0 for ever; `final`: the task has finished.

    `at_once`: it does not wait for others. `told`: it is sent, and nobody waits for the server's answer.
    """

    key: bytes
    payload: bytes
    seconds: int
    final: bool
    at_once: bool = False
    told: bool = False


class ResultStore:
    """The results under one URL. Thread-safe, and usable after a fork."""

    def __init__(self, pool: ConnectionPool, *, status_of: Callable[[bytes], str]) -> None:
        """`status_of` reads the state of a stored payload that does not begin with it, as compressed ones."""
        self._runner = ScriptRunner(pool)
        self._status_of = status_of
        self._waiting: deque[Record] = deque()
        self._flushing = threading.Lock()
        self._pid = os.getpid()
        _stores.add(self)

    def add(self, record: Record) -> None:
        """Let it wait for the next group, however many wait; never raises for a server that is away."""
        self._own()
        self._waiting.append(record)
        wake = _gathering()
        if wake is not None:
            wake()
            return
        try:
            self.flush()
        except ServerLost as error:
            logger.warning("A result waits until the server is there again: %s", error)

    def send(self, record: Record) -> None:
        """Store it now."""
        self._send_group([record])

    def store(self, record: Record) -> None:
        """Store it, or let it wait for the next group if it is final and somebody gathers."""
        if _held_back is not None and _held_back.takes(self, record):
            return
        wake = _gathering()
        if record.told:
            self.flush()
            self._runner.post(_STORE, _storing([record]))
            return
        if wake is None or record.at_once or not record.final:
            self.flush()
            self._send([record])
            return
        self._own()
        if len(self._waiting) >= GROUP:
            self.flush()
        self._waiting.append(record)
        wake()

    def flush(self) -> None:
        """Send what waits; it keeps waiting if that fails. Raises ServerLost, or what the server answers.

        When it returns, what waited is stored, also what another thread was sending.
        """
        self._own()
        if _held_back is not None:
            _held_back.send()
        if not self._waiting and not self._flushing.locked():
            return
        with self._flushing:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
                try:
                    self._send_group(group)
                except BaseException:
                    self._waiting.extendleft(reversed(group))
                    raise

    def get(self, key: bytes) -> bytes | None:
        """What is stored there."""
        return self.call("GET", key)

    def call(self, *command: Argument) -> Reply:
        """One command, after what waits."""
        self.flush()
        return self._runner.call(*command)

    def pipeline(self, *commands: Command) -> list[Reply]:
        """Several commands in one round trip, after what waits; raises the first error reply."""
        self.flush()
        replies = self._runner.pipeline(commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    def evaluate(self, script: Script, keys: Sequence[Argument], args: Sequence[Argument]) -> Reply:
        """A script that may run twice without harm, after what waits."""
        self.flush()
        command = (b"EVALSHA", script.sha, len(keys), *keys, *args)
        return self._runner.on_connection(lambda wire, _: self._runner.evaluate(wire, script, command))

    @property
    def pool(self) -> ConnectionPool:
        """How to connect."""
        return self._runner.pool

    def _send(self, group: list[Record]) -> None:
        command = _storing(group)
        codes: list[int] = self._runner.on_connection(lambda wire, _: self._runner.evaluate(wire, _STORE, command))
        if StoreCode.UNREADABLE in codes:
            for record, code in zip(group, codes, strict=True):
                if code == StoreCode.UNREADABLE:
                    self._swap(record)

    def _send_group(self, group: list[Record]) -> None:
        try:
            self._send(group)
        except ResponseError as error:
            if str(error).startswith(_PASSING):
                raise
            for record in group:
                self._send_or_drop(record)

    def _send_or_drop(self, record: Record) -> None:
        try:
            self._send([record])
        except ResponseError as error:
            if str(error).startswith(_PASSING):
                raise
            logger.error("The result %r cannot be stored: %s", record.key, error)

    def _swap(self, record: Record) -> None:
        for _ in range(SWAPS):
            before = self._runner.call("GET", record.key)
            if before is None:
                self._send([record])
                return
            status = self._status_of(before)
            if status == "SUCCESS" or (not record.final and status in ("FAILURE", "REVOKED")):
                return
            command = (b"EVALSHA", _SWAP.sha, 1, record.key, before, record.payload, record.seconds)
            if self._runner.on_connection(lambda wire, _, command=command: self._runner.evaluate(wire, _SWAP, command)):
                return
        raise ResultUnsettled(record.key.decode(errors="replace"))

    def _own(self) -> None:
        if self._pid != os.getpid():  # what the parent gathered is the parent's to send
            self._pid, self._waiting, self._flushing = os.getpid(), deque(), threading.Lock()


def _storing(group: Sequence[Record]) -> Command:
    args: list[Argument] = []
    for record in group:
        args += (record.payload, record.seconds, int(record.final))
    return (b"EVALSHA", _STORE.sha, len(group), *(record.key for record in group), *args)


class _HeldBack:
    """The last word on one task, for somebody else to store."""

    def __init__(self, task_id: str) -> None:
        self._end, self._pid = task_id.encode(), os.getpid()
        self._store: ResultStore | None = None
        self.records: list[Record] = []

    def takes(self, store: ResultStore, record: Record) -> bool:
        """Keep it, if it is that."""
        fits = record.final and not record.at_once and len(record.payload) <= MAX_HANDED_OVER
        if not fits or not record.key.endswith(self._end) or self._pid != os.getpid():
            return False
        self._store = store
        self.records.append(record)
        return True

    def send(self) -> None:
        """Store it here after all."""
        while self._store and self.records:
            self._store.send(self.records[0])
            del self.records[0]


@contextmanager
def hold_back(task_id: str) -> Generator[_HeldBack]:
    """Within, the final state of this task is not stored but put into `records`: somebody else will store it.

    For a process that runs one task at a time. It is stored here if it is read here, or an exception leaves.
    """
    global _held_back  # noqa: PLW0603 - one task at a time
    held = _held_back = _HeldBack(task_id)
    try:
        yield held
    except BaseException:
        held.send()
        raise
    finally:
        _held_back = None


def gather(wake: Callable[[], None]) -> None:
    """From now on final states wait in this process for `flush_results`; `wake` is called when one begins to wait."""
    global _gatherer  # noqa: PLW0603 - acks and results of a process meet here, and nowhere else
    _gatherer = (os.getpid(), wake)


def stop_gathering(wake: Callable[[], None] | None = None) -> None:
    """Send what waits; results are stored at once again, unless others than `wake` gather."""
    global _gatherer  # noqa: PLW0603
    if wake is None or (_gatherer is not None and _gatherer[1] == wake):
        _gatherer = None
    flush_results()


def flush_results() -> None:
    """Send the results that wait in this process."""
    for store in list(_stores):
        store.flush()


def _gathering() -> Callable[[], None] | None:
    if _gatherer is None or _gatherer[0] != os.getpid():
        return None
    return _gatherer[1]


_STORE, _SWAP = load_script("store_results"), load_script("swap_result")
_gatherer: tuple[int, Callable[[], None]] | None = None
_held_back: _HeldBack | None = None
_stores: WeakSet[ResultStore] = WeakSet()
