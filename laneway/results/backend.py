"""The result backend: `result_backend = "laneway:ResultBackend+redis://…/1"`, which `laneway.install` sets.

Celery's Redis backend, but it accesses the server in its own way. Keys, payloads and channels are the same, so stock
clients and Flower can read its results, and it can read results that Celery's backend stored. What differs:

1. One script stores a state in one round trip; Celery reads first, and writes in a transaction. The script keeps a
   success, and never makes a finished task unfinished. A new run under the id of a failed task therefore shows the
   failure until the run ends, unless the old result is forgotten first.
2. Publishing a task sends nothing to the backend: a process subscribes when it waits (`result_consumer.py`).
3. All threads of a process share one backend. It uses its connections without redis-py's client.
4. Results are committed in groups with the acks while the worker's transport buffers them (`store.py`).

URLs: redis, rediss, socket, sentinel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from celery import states
from celery.backends.redis import (
    CHORD_CLAIM_EXTEND_LUA,
    CHORD_CLEANUP_LUA,
    CHORD_PART_RETURN_LUA,
    RedisBackend,
    SentinelBackend,
)
from celery.exceptions import BackendStoreError
from kombu.exceptions import EncodeError
from kombu.utils.encoding import ensure_bytes

from laneway.engine.errors import ServerLost
from laneway.engine.fork_lock import ForkLock
from laneway.engine.script_loader import Script, make_script
from laneway.results.result_consumer import ResultConsumer
from laneway.results.store import Record, ResultStore, ResultUnsettled

_FOLLOWERS = ("chain", "chord", "callbacks", "errbacks")


class ResultBackend(RedisBackend):
    """Results on Redis or Valkey ≥ 6.2."""

    ResultConsumer = ResultConsumer
    result_consumer: Any

    def __new__(cls, *_: Any, url: str | None = None, **__: Any) -> ResultBackend:
        """For a Sentinel URL, make the subclass that asks Sentinel."""
        return object.__new__(SentinelResultBackend if (url or "").startswith("sentinel://") else cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.thread_safe = True
        self.connection_errors = (*self.connection_errors, ServerLost, ResultUnsettled)
        self._pending_lock = ForkLock()
        self._gets: dict[int, int] = {}
        self._extended = bool(self.app.conf.find_value_for_key("extended", "result"))

    @cached_property
    def results(self) -> ResultStore:
        """Where results are stored. It connects when it is first used."""
        return ResultStore(self._get_pool(**self.connparams), status_of=self._status_of)

    def on_task_call(self, producer: Any, task_id: str) -> dict[str, Any]:
        """Do nothing: a process subscribes when it waits."""
        del producer, task_id
        return {}

    # --- a task's state

    def encode(self, data: Any) -> Any:
        """Serialize a value. Raises EncodeError."""
        if self.compression:
            return super().encode(data)
        try:
            return self.encoder(data)
        except Exception as error:
            raise EncodeError(error) from error

    def _get_result_meta(
        self, result: Any, state: str, traceback: Any, request: Any, *rest: Any, **options: Any
    ) -> dict[str, Any]:
        if self._extended or rest or options:
            return super()._get_result_meta(result, state, traceback, request, *rest, **options)
        meta = {  # the state comes first, because store_results.lua reads it there
            "status": state,
            "result": result,
            "traceback": traceback,
            "children": self.current_task_children(request),
            "date_done": datetime.now(self.app.timezone).isoformat() if state in self.READY_STATES else None,
        }
        if request is not None:
            if getattr(request, "group", None):
                meta["group_id"] = request.group
            if getattr(request, "parent_id", None):
                meta["parent_id"] = request.parent_id
        return meta

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **_: Any
    ) -> Any:
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        meta["task_id"] = task_id.decode() if isinstance(task_id, bytes) else task_id
        payload = self._checked(self.encode(meta), task_id=task_id, state=state)
        seconds = self.failure_expires if state == states.FAILURE else None
        seconds = self.expires if seconds is None else seconds
        record = Record(
            key=self.get_key_for_task(task_id),
            payload=payload,
            seconds=int(seconds or 0),
            final=state in self.READY_STATES,
            immediate=_has_followers(request),
            fire_and_forget=state == states.STARTED and not self.compression,
        )
        try:
            self.results.store(record)
        except (ServerLost, ResultUnsettled):
            self.ensure(self.results.store, (record,))
        return result

    def _status_of(self, payload: bytes) -> str:
        try:
            meta: Any = self.decode(payload)
            return str(meta["status"])
        except Exception:  # noqa: BLE001 - an unreadable result may be overwritten
            return states.PENDING

    def _checked(self, value: Any, **about: Any) -> bytes:
        payload = ensure_bytes(value)
        if len(payload) > self._MAX_STR_VALUE_SIZE:
            raise BackendStoreError("value too large for Redis backend", **about)
        return payload

    # --- keys and values, as Celery's backends have them

    def get(self, key: bytes) -> bytes | None:
        """The stored value. Retries only briefly, because Celery retries where it wants to wait."""
        return self.results.get(key)

    def mget(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The stored values, in the order of the keys."""
        values: Any = self.results.call("MGET", *keys) if keys else []
        return values

    def set(self, key: bytes, value: Any, expires: int | None = None, **retry_policy: Any) -> None:
        """Store and publish, over any other value; expires after `expires` seconds (0: never; None: as configured)."""
        payload = self._checked(value)
        seconds = int((self.expires if expires is None else expires) or 0)
        commands = self._set_command(key, payload, seconds), ("PUBLISH", key, payload)
        self.ensure(self.results.pipeline, commands, **retry_policy)

    def delete(self, key: bytes) -> None:
        """Delete the key. Retries only briefly, like `get`."""
        self.results.call("DEL", key)

    def forget_many(self, task_ids: Sequence[str]) -> None:
        """Delete the results of these tasks in one round trip."""
        known: Any = vars(self)["_cache"]  # of Celery's base class
        for task_id in task_ids:
            known.pop(task_id, None)
        if task_ids:
            self.results.call("DEL", *(self.get_key_for_task(task_id) for task_id in task_ids))

    def incr(self, key: bytes) -> int:
        """Add one to the counter; return the new count."""
        return self.results.increment(ensure_bytes(key))

    def expire(self, key: bytes, value: int) -> int:
        """Let the key expire `value` seconds from now. Returns 1, or 0 when the key does not exist."""
        return int(self.ensure(self.results.call, ("EXPIRE", key, value)) or 0)

    # --- chords

    def add_to_chord(self, group_id: str, result: Any) -> None:
        """Add one to the number of parts that the chord waits for."""
        del result
        self.incr(self.get_key_for_group(group_id, ".t"))

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Store the size and delete the claim of an earlier run: a frozen chord may be applied again under its id."""
        forget_claim = ("DEL", self.get_key_for_group(group_id, ".c"))
        size = self._set_command(self.get_key_for_group(group_id, ".s"), chord_size, int(self.chord_expires or 0))
        self.ensure(self.results.pipeline, (forget_claim, size))

    def _set_chord_key(self, key: bytes, value: Any) -> None:
        payload = self._checked(value if isinstance(value, (bytes, str)) else str(value))
        self.ensure(self.results.call, self._set_command(key, payload, int(self.chord_expires or 0)))

    @staticmethod
    def _set_command(key: bytes, value: Any, seconds: int) -> tuple[Any, ...]:
        return ("SET", key, value, "EX", seconds) if seconds else ("SET", key, value)

    @cached_property
    def _chord_part_return_script(self) -> ChordScript:
        return ChordPartScript(self.results, make_script("chord_part", CHORD_PART_RETURN_LUA))

    @cached_property
    def _chord_cleanup_script(self) -> ChordScript:
        return ChordCleanupScript(self.results, make_script("chord_cleanup", CHORD_CLEANUP_LUA))

    @cached_property
    def _chord_claim_extend_script(self) -> ChordScript:
        return ChordScript(self.results, make_script("chord_claim", CHORD_CLAIM_EXTEND_LUA))

    # --- waiting: several threads, several result objects for one id

    def add_pending_result(self, result: Any, weak: bool | None = None, start_drainer: bool = True) -> Any:
        """Register a waiting result object. `get` passes no `weak`, `then` does: only `then` outlasts a wait."""
        if weak is None and all(other is not result for other in self.waiting_for(result.id)):
            self._gets.setdefault(id(result), 0)
        return super().add_pending_result(result, weak=bool(weak), start_drainer=start_drainer)

    def wait_for_pending(self, result: Any, callback: Any = None, propagate: bool = True, **kwargs: Any) -> Any:
        """Wait for the result. A wait that times out leaves no registration behind."""
        key = id(result)
        with self._pending_lock:
            if key in self._gets:
                self._gets[key] += 1
        try:
            return super().wait_for_pending(result, callback=callback, propagate=propagate, **kwargs)
        finally:
            with self._pending_lock:
                self._gets[key] = self._gets.get(key, 0) - 1
                last = self._gets[key] == 0
                if self._gets[key] <= 0:
                    del self._gets[key]
            if last and not result.on_ready.ready:
                self.remove_pending_result(result)

    def iter_native(self, result: Any, no_ack: bool = True, **kwargs: Any) -> Iterator[tuple[str, Any]]:
        """The members of a group as they become ready: (id, meta), or (id, members) for a group in the group."""
        self._ensure_not_eager()
        bucket: deque[Any] = deque()
        nodes = [node for node in result.results if hasattr(node, "_cache")]
        bucket.extend(node for node in result.results if not hasattr(node, "_cache"))
        yielded: set[int] = set()
        try:
            for node in nodes:
                self.result_consumer.collect(node, bucket)
            yield from _drain(bucket, yielded)
            for _ in self._wait_for_pending(result, no_ack=no_ack, **kwargs):
                yield from _drain(bucket, yielded)
            yield from _drain(bucket, yielded)
        finally:
            self.result_consumer.stop_collecting(nodes, bucket)

    def waiting_for(self, task_id: str) -> list[Any]:
        """The result objects that wait for this task."""
        with self._pending_lock:
            return [result for waiting in self._pending_results for result in waiting.get(task_id, {}).values()]

    def stop_waiting(self, task_id: str) -> None:
        """Cancel the subscription, unless another thread has begun to wait meanwhile."""
        with self._pending_lock:
            if not self.waiting_for(task_id):
                self.result_consumer.cancel_for(task_id)

    def _add_pending_result(self, task_id: str, result: Any, weak: bool = False) -> None:
        with self._pending_lock:
            super()._add_pending_result(task_id, result, weak=weak)

    def remove_pending_result(self, result: Any) -> Any:
        """Stop waiting with this object. The garbage collector may call it, too."""
        with self._pending_lock:
            return super().remove_pending_result(result)


class SentinelResultBackend(ResultBackend, SentinelBackend):
    """The backend on Redis Sentinel. `ResultBackend` chooses it for a `sentinel://` URL."""


def _has_followers(request: Any) -> bool:
    """True if other tasks follow this one. Its result is stored at once, because they rely on it."""
    return request is not None and any(getattr(request, name, None) for name in _FOLLOWERS)


class ChordScript:
    """One of Celery's chord scripts, callable like redis-py's script objects."""

    def __init__(self, results: ResultStore, script: Script) -> None:
        self._results, self._script = results, script

    def __call__(self, keys: Sequence[Any], args: Sequence[Any], client: Any = None) -> Any:
        """Run the script. `client` is Celery's, which is not used."""
        del client
        return self._results.evaluate(self._script, keys, args)


class ChordPartScript(ChordScript):
    """Notes that a part of a chord has finished, and claims the start of the body for the last one.

    If the reply is lost, the repeat finds the body claimed. The claim's token shows that the lost call claimed it.
    """

    def __call__(self, keys: Sequence[Any], args: Sequence[Any], client: Any = None) -> Any:
        """Return the number of finished parts, the change of the chord's size, its size, and 1 if this call claims."""
        finished, change, size, claimed = super().__call__(keys, args, client)
        if not claimed and size and finished == int(size) + int(change or 0):
            claimed = int(self._results.get(keys[5]) == ensure_bytes(args[7]))
        return [finished, change, size, claimed]


class ChordCleanupScript(ChordScript):
    """Deletes the parts of a chord whose body was started, and marks the chord as done."""

    def __call__(self, keys: Sequence[Any], args: Sequence[Any], client: Any = None) -> Any:
        """Return 1 if the chord is done, also by a call whose reply was lost; else 0."""
        return super().__call__(keys, args, client) or int(self._results.get(keys[0]) == b"done")


def _drain(bucket: deque[Any], yielded: set[int]) -> Iterator[tuple[str, Any]]:
    while bucket:
        node = bucket.popleft()
        if id(node) not in yielded:
            yielded.add(id(node))
            yield node.id, node._cache if hasattr(node, "_cache") else node.children


def forget_results(backend: Any, task_ids: Sequence[str]) -> None:
    """Delete the results of these tasks from any backend of Celery's. Raises NotImplementedError for some."""
    if isinstance(backend, ResultBackend):
        backend.forget_many(task_ids)
        return
    for task_id in task_ids:
        backend.forget(task_id)
