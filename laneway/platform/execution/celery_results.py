"""Celery's result store, as the audit uses it. No other part of the platform reads it.

The history has the outcome of each task. A Celery result is what Celery's own callers see of it: `AsyncResult`, chains
and chords. The two can differ, because they are two writes: a worker that dies between them leaves a chain waiting for
a result that never comes. The audit finds such results here, and replaces them from the history.

Both backends, the engine's and Celery's own, store a result as one string that begins with its state. So the states of
many results are read without fetching the results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final, cast

from celery import Celery, states
from celery.app.task import Context
from celery.backends.redis import RedisBackend
from celery.exceptions import BackendStoreError, TaskRevokedError
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from laneway._masking import masked
from laneway.engine import EngineError
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import PermanentError, RetryableError
from laneway.schemas.task import TaskState

CELERY_STATES: Final = {
    TaskState.COMPLETED: states.SUCCESS,
    TaskState.FAILED: states.FAILURE,
    TaskState.DEAD_LETTER: states.FAILURE,
    TaskState.CANCELLED: states.REVOKED,
    TaskState.EXPIRED: states.REVOKED,
}
"""The state of a final Celery result, by the state of the task in the history."""
FINAL_STATES: Final = frozenset({states.SUCCESS, states.FAILURE, states.REVOKED})
CELERY_PREFIX: Final = "celery."
"""Celery's own tasks store their result first; the history learns of their end by the later acknowledgement."""
PROCESS_LOST: Final = frozenset({"WorkerLostError", "TimeLimitExceeded"})
"""Errors that a worker's main process stores for a lost pool process. They end an attempt and not always the task."""
UNREADABLE: Final = "unreadable"
"""The state that is reported for a stored value that is no Celery result."""
STATE_BYTES: Final = 64
"""Bytes that are read from the start of a result; they contain its state."""
STATE_PATTERN: Final = re.compile(rb'^\{"status": ?"([A-Z]{1,32})"')
RESULTS_PER_FETCH: Final = 20
"""Whole results in one round trip: each may have a megabyte."""

SWAP: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
"""


class ResultStoreUnavailable(RetryableError):
    """The result store cannot be reached."""

    title = "Result store unavailable"

    template = "The result store (CELERY_RESULT_BACKEND, or REDIS_DB_BACKEND) cannot be used: {reason}"
    reason: str


class TaskFailed(PermanentError):
    """A failure as it is passed to Celery: the class and the message of the error, as text.

    The error itself might not survive pickling, by which Celery passes it from one process to another.
    """

    template = "{kind}: {message}"
    kind: str
    message: str


def failure_meta(error: TaskFailed) -> dict[str, Any]:
    """The failure in the form in which Celery's backends store it."""
    return {"exc_type": "TaskFailed", "exc_message": [error.kind, error.message], "exc_module": TaskFailed.__module__}


@dataclass(frozen=True, slots=True)
class FinalResult:
    """A stored result of a task that has ended: its state, when it was stored, what it returned, or its error."""

    state: str
    at: datetime | None
    error_type: str | None
    error: str | None = None
    value: Any = None


class CeleryResults:
    """Reads, replaces and deletes Celery results. Every method raises ResultStoreUnavailable."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    @property
    def listable(self) -> bool:
        """Whether results can be listed: only if they are stored on Redis or Valkey."""
        return isinstance(self._backend, RedisBackend)

    @property
    def retention(self) -> timedelta | None:
        """How long a result is kept; None: for ever."""
        seconds = self._backend.expires
        return timedelta(seconds=seconds) if seconds else None

    def states(self, ids: Sequence[str]) -> list[str | None]:
        """Read the Celery state of each of these results, in one round trip; None: there is no result."""
        with translated_errors():
            pipeline = self._client.pipeline(transaction=False)
            for id in ids:
                pipeline.getrange(self._backend.get_key_for_task(id), 0, STATE_BYTES - 1)
            heads: list[bytes] = pipeline.execute() if ids else []
            return [self._state(id, head) for id, head in zip(ids, heads, strict=True)]

    def ends(self, runs: Sequence[TaskRun]) -> dict[str, FinalResult]:
        """Return task id → its final result, for the unfinished tasks whose result says that they have ended.

        A result counts only if it was stored since the task was last sent or started; an older one belongs to an
        earlier run. The error that a worker's main process stores for a lost pool process does not count either: it is
        not the end of the task.
        """
        runs = [run for run in runs if not run.name.startswith(CELERY_PREFIX)]
        if not runs or not self.listable:
            return {}
        stored = self.states([run.id for run in runs])
        suspects = [run for run, state in zip(runs, stored, strict=True) if state in FINAL_STATES]
        ends: dict[str, FinalResult] = {}
        for run, end in zip(suspects, self._final_results([run.id for run in suspects]), strict=True):
            since = max(at for at in (run.accepted_at, run.published_at, run.started_at) if at)
            if end and end.error_type not in PROCESS_LOST and (end.at is None or end.at >= since):
                ends[run.id] = end
        return ends

    def _final_results(self, ids: Sequence[str]) -> list[FinalResult | None]:
        """The final results of these tasks; None: there is no result, or it is not final."""
        found: list[FinalResult | None] = []
        with translated_errors():
            for first in range(0, len(ids), RESULTS_PER_FETCH):
                keys = [self._backend.get_key_for_task(id) for id in ids[first : first + RESULTS_PER_FETCH]]
                found += [self._final_result(payload) for payload in self._client.mget(keys)]
        return found

    def replace(self, run: TaskRun) -> None:
        """Replace the result of an ended task with what the history says. Waiting callers are notified."""
        value, seconds = _value(run), self._remaining_seconds(run)
        with translated_errors():
            self._backend.forget(run.id)  # Celery does not overwrite a stored success
            self._backend.store_result(
                run.id, value, CELERY_STATES[TaskState(run.state)], traceback=run.traceback, request=_request(run)
            )
            if seconds is not None:
                self._backend.expire(self._backend.get_key_for_task(run.id), seconds)

    def forget(self, id: str) -> None:
        """Delete a result."""
        with translated_errors():
            self._backend.forget(id)

    def ids(self, *, page: int) -> Iterator[list[str]]:
        """The ids of all tasks that have results. Each list comes from about `page` keys; an id may come twice."""
        prefix: bytes = self._backend.task_keyprefix
        pattern, cursor = _as_pattern(prefix) + b"*", 0
        while True:
            with translated_errors():
                cursor, keys = self._client.scan(cursor, match=pattern, count=page)
            yield [key[len(prefix) :].decode("utf-8", "replace") for key in keys]
            if not cursor:
                return

    def contents(self, ids: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Yield the id and everything that is stored of each of these results that exists."""
        for first in range(0, len(ids), RESULTS_PER_FETCH):
            page = ids[first : first + RESULTS_PER_FETCH]
            with translated_errors():
                payloads: list[bytes | None] = self._client.mget([self._backend.get_key_for_task(id) for id in page])
            for id, payload in zip(page, payloads, strict=True):
                if payload is not None:
                    meta = self._decode(payload)
                    yield id, payload if meta is None or meta["status"] == UNREADABLE else meta

    def rewrite(self, ids: Sequence[str], change: Callable[[Any], Any]) -> int:
        """Store what `change` makes of the contents of these results, for their remaining time; returns how many.

        `change` returns None for contents that stay. A result that is written meanwhile stays as it was written.
        """
        done = 0
        for first in range(0, len(ids), RESULTS_PER_FETCH):
            keys = [self._backend.get_key_for_task(id) for id in ids[first : first + RESULTS_PER_FETCH]]
            with translated_errors():
                for key, payload in zip(keys, self._client.mget(keys), strict=True):
                    changed = change(self._decode(payload))
                    if changed is not None:
                        done += int(self._client.eval(SWAP, 1, key, payload, self._backend.encode(changed)))
        return done

    def chord_parts(self, *, page: int) -> Iterator[bytes]:
        """What is stored of the results that bodies of chords wait for, one after the other."""
        pattern = _as_pattern(self._backend.group_keyprefix) + b"*.j"
        with translated_errors():
            for key in self._client.scan_iter(match=pattern, count=page):
                if self._client.type(key) == b"zset":
                    yield from (part for part, _ in self._client.zscan_iter(key, count=RESULTS_PER_FETCH))
                    continue
                first = 0
                while parts := self._client.lrange(key, first, first + RESULTS_PER_FETCH - 1):
                    yield from parts
                    first += len(parts)

    def close(self) -> None:
        """Close the connections of this process."""
        if "_backend" in self.__dict__ and self.listable:
            self._client.close()

    @cached_property
    def _backend(self) -> Any:
        return self._app.backend

    @property
    def _client(self) -> Any:
        return self._backend.client

    def _remaining_seconds(self, run: TaskRun) -> int | None:
        """Seconds for which a replaced result is kept: it expires when the original one would have expired."""
        if self.retention is None or run.finished_at is None:
            return None
        return max(1, round((run.finished_at + self.retention - clock.now()).total_seconds()))

    def _state(self, id: str, head: bytes) -> str | None:
        if not head:
            return None
        found = STATE_PATTERN.match(head)
        if found:
            return found[1].decode()
        # The value is compressed, or another program stored it.
        meta = self._decode(self._client.get(self._backend.get_key_for_task(id)))
        return None if meta is None else str(meta["status"])

    def _final_result(self, payload: bytes | None) -> FinalResult | None:
        meta = self._decode(payload)
        if meta is None or meta["status"] not in FINAL_STATES:
            return None
        result = meta.get("result")
        is_error = isinstance(result, dict) and meta["status"] != states.SUCCESS
        kind: Any = None
        message: Any = None
        if is_error:
            error = cast("dict[str, Any]", result)
            kind, message = error.get("exc_type"), error.get("exc_message")
            if kind == TaskFailed.__name__ and isinstance(message, list | tuple):
                kind, message = (*cast("list[Any]", message), None, None)[:2]
        return FinalResult(
            state=str(meta["status"]),
            at=_moment(meta.get("date_done")),
            error_type=kind if isinstance(kind, str) else None,
            error=None if message is None else str(message),
            value=None if is_error else result,
        )

    def _decode(self, payload: bytes | None) -> dict[str, Any] | None:
        if payload is None:
            return None
        try:
            meta = self._backend.decode(payload)
            return meta if isinstance(meta["status"], str) else {"status": UNREADABLE}
        except Exception:  # noqa: BLE001  another program may have stored anything under this key
            return {"status": UNREADABLE}


def _as_pattern(text: bytes) -> bytes:
    return re.sub(rb"([\\*?\[\]])", rb"\\\1", text)


def _value(run: TaskRun) -> Any:
    if run.state == TaskState.COMPLETED:
        return run.result
    if run.state == TaskState.EXPIRED:
        return TaskRevokedError("expired")
    return TaskFailed(run.error_type or "Cancelled", run.error or "stopped on request")


def _request(run: TaskRun) -> Context:
    """Return the call of the task, with the fields that Celery stores in a result."""
    return Context(
        {
            "id": run.id,
            "task": run.name,
            "args": [],
            "kwargs": run.payload,
            "hostname": run.worker,
            "children": [],
            "retries": max(0, run.attempts - 1),
            "delivery_info": {"routing_key": run.queue},
            "ignore_result": False,
        }
    )


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@contextmanager
def translated_errors() -> Generator[None]:
    """Raise the errors of Celery, the engine and redis-py as ResultStoreUnavailable, without a password in the text."""
    try:
        yield
    except (RedisError, EngineError, KombuError, BackendStoreError, OSError) as error:
        raise ResultStoreUnavailable(masked(str(error)) or type(error).__name__) from error
