"""Celery's result store, behind the few things that the audit asks of it. Nothing else of the platform reads it.

The history says what became of a task; a result is what Celery's own callers (`AsyncResult`), chains and chords see of
it. Both backends, the engine's and Celery's own, keep a result as one string that begins with its state, so that many
are looked at without being fetched.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
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

from laneway.engine import EngineError
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import PermanentError, RetryableError
from laneway.platform.logging import URL_LOGIN
from laneway.platform.schemas.task import TaskState

FINAL: Final = {
    TaskState.COMPLETED: states.SUCCESS,
    TaskState.FAILED: states.FAILURE,
    TaskState.DEAD_LETTER: states.FAILURE,
    TaskState.CANCELLED: states.REVOKED,
    TaskState.EXPIRED: states.REVOKED,
}
"""What the result of a task says when it is over, by the state in the history."""
OVER: Final = frozenset({states.SUCCESS, states.FAILURE, states.REVOKED})
UNREADABLE: Final = "what nobody can read"
HEAD: Final = 64
"""Bytes of a result in which its state is found."""
STATUS: Final = re.compile(rb'^\{"status": ?"([A-Z]{1,32})"')
FETCHED: Final = 20
"""Whole results in one round trip: each may have a megabyte."""


class ResultStoreUnavailable(RetryableError):
    """The result store cannot be reached."""

    title = "Result store unavailable"

    template = "The result store (CELERY_RESULT_BACKEND, or REDIS_DB_BACKEND) cannot be used: {reason}"
    reason: str


class TaskFailed(PermanentError):
    """How a failure is told to Celery: its kind and message, so that it survives pickling."""

    template = "{kind}: {message}"
    kind: str
    message: str


def as_celery_has_it(error: TaskFailed) -> dict[str, Any]:
    """The same in a stored result."""
    return {"exc_type": "TaskFailed", "exc_message": [error.kind, error.message], "exc_module": TaskFailed.__module__}


@dataclass(frozen=True, slots=True)
class End:
    """A stored result of a task that is over: its state, when it was stored, and the class of its error."""

    state: str
    at: datetime | None
    error_type: str | None


class Results:
    """Looks results up, and puts them back."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    @property
    def listable(self) -> bool:
        """Whether results can be looked up here: on Redis and Valkey."""
        return isinstance(self._backend, RedisBackend)

    @property
    def kept(self) -> timedelta | None:
        """How long a result is kept; None: for ever."""
        seconds = self._backend.expires
        return timedelta(seconds=seconds) if seconds else None

    def states(self, ids: Sequence[str]) -> list[str | None]:
        """Celery's state in each of these results, in one round trip; None where there is no result."""
        with named_errors():
            pipeline = self._client.pipeline(transaction=False)
            for id in ids:
                pipeline.getrange(self._backend.get_key_for_task(id), 0, HEAD - 1)
            heads: list[bytes] = pipeline.execute() if ids else []
            return [self._state(id, head) for id, head in zip(ids, heads, strict=True)]

    def ends(self, ids: Sequence[str]) -> list[End | None]:
        """These results as far as they are final, a few at a time; None where there is no such result."""
        found: list[End | None] = []
        with named_errors():
            for first in range(0, len(ids), FETCHED):
                keys = [self._backend.get_key_for_task(id) for id in ids[first : first + FETCHED]]
                found += [self._end(payload) for payload in self._client.mget(keys)]
        return found

    def put(self, run: TaskRun) -> None:
        """Store what the history says of a task that is over, in the place of whatever is there; who waits is told."""
        value, left = _value(run), self._left(run)
        with named_errors():
            self._backend.forget(run.id)  # a success that is there would stay
            self._backend.store_result(
                run.id, value, FINAL[TaskState(run.state)], traceback=run.traceback, request=_request(run)
            )
            if left is not None:
                self._backend.expire(self._backend.get_key_for_task(run.id), left)

    def forget(self, id: str) -> None:
        """Take a result away."""
        with named_errors():
            self._backend.forget(id)

    def ids(self, *, page: int) -> Iterator[list[str]]:
        """The tasks that have results, about `page` keys of the store at a time; some may come twice."""
        prefix: bytes = self._backend.task_keyprefix
        pattern, cursor = re.sub(rb"([\\*?\[\]])", rb"\\\1", prefix) + b"*", 0
        while True:
            with named_errors():
                cursor, keys = self._client.scan(cursor, match=pattern, count=page)
            yield [key[len(prefix) :].decode("utf-8", "replace") for key in keys]
            if not cursor:
                return

    def close(self) -> None:
        """Give back the connections of this process."""
        if "_backend" in self.__dict__ and self.listable:
            self._client.close()

    @cached_property
    def _backend(self) -> Any:
        return self._app.backend

    @property
    def _client(self) -> Any:
        return self._backend.client

    def _left(self, run: TaskRun) -> int | None:
        """Seconds for which the result of a task that ended when it did is still to be kept."""
        if self.kept is None or run.finished_at is None:
            return None
        return max(1, round((run.finished_at + self.kept - clock.now()).total_seconds()))

    def _state(self, id: str, head: bytes) -> str | None:
        if not head:
            return None
        found = STATUS.match(head)
        if found:
            return found[1].decode()
        end = self._meta(self._client.get(self._backend.get_key_for_task(id)))  # compressed, or not Celery's
        return None if end is None else str(end["status"])

    def _end(self, payload: bytes | None) -> End | None:
        meta = self._meta(payload)
        if meta is None or meta["status"] not in OVER:
            return None
        result = meta.get("result")
        failed = isinstance(result, dict) and meta["status"] != states.SUCCESS
        kind = cast("dict[str, Any]", result).get("exc_type") if failed else None
        return End(str(meta["status"]), _moment(meta.get("date_done")), kind if isinstance(kind, str) else None)

    def _meta(self, payload: bytes | None) -> dict[str, Any] | None:
        if payload is None:
            return None
        try:
            meta = self._backend.decode(payload)
            return meta if isinstance(meta["status"], str) else {"status": UNREADABLE}
        except Exception:  # noqa: BLE001  it may be anything
            return {"status": UNREADABLE}


def _value(run: TaskRun) -> Any:
    if run.state == TaskState.COMPLETED:
        return run.result
    if run.state == TaskState.EXPIRED:
        return TaskRevokedError("expired")
    return TaskFailed(run.error_type or "Cancelled", run.error or "stopped on request")


def _request(run: TaskRun) -> Context:
    """The call, as far as a stored result tells of it."""
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
def named_errors() -> Generator[None]:
    """Celery's, the engine's and redis-py's errors as the platform's."""
    try:
        yield
    except (RedisError, EngineError, KombuError, BackendStoreError, OSError) as error:
        raise ResultStoreUnavailable(URL_LOGIN.sub("", str(error)) or type(error).__name__) from error
