"""Counts the slots of a worker when some of its tasks take more than one: `cost`, an attribute of a task.

A worker has as many slots as its pool runs tasks at once (`-c`). A task with `cost = 3` takes three of them while it
runs; one that costs more than there are runs alone. The pool itself counts one slot for each task, so tasks wait here,
before the pool:

1. Tasks start in the order in which they came from the broker. The first one waits until it fits, and nothing overtakes
   it: so a heavy task is never starved by light ones, and waits at most for what runs.
2. A task that comes while nothing runs always fits: so nothing waits for ever.
3. While a heavy task is here, the prefetch count is lower by what it costs beyond one, so that other workers get the
   messages for which this one has no slot.

Tasks with Celery's own `rate_limit` do not come by here: Celery gives them to the pool itself. A worker none of whose
tasks costs more than one slot has no such count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import RLock
from typing import Any, cast

from celery.worker import state

from laneway.transport.celery_worker import is_stopping

_WATCHED = ("on_accepted", "on_success", "on_failure")
"""The callbacks that a request, or a chunk, gives the pool."""


class Slots:
    """The slots of one worker. Thread-safe: a pool of threads calls back in them."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._waiting = deque[Admission]()
        self._running = set[Admission]()
        self._lock = RLock()

    @property
    def size(self) -> int:
        """How many slots there are."""
        return max(1, int(self._pool.num_processes))

    def counts(self) -> dict[str, int]:
        """Slots, those that are taken, and tasks that wait for one."""
        with self._lock:
            return {"size": self.size, "used": self._used(), "waiting": len(self._waiting)}

    def admit(self, request: Any, *, cost: int, start: Callable[[Any], object], qos: Any) -> None:
        """Give a request, or a chunk, to the pool with `start`, as soon as its slots are free."""
        with self._lock:
            self._waiting.append(Admission(request, cost, start, self, qos))
        self.start_next()

    def start_next(self) -> None:
        """Start what has its slots now."""
        while (admission := self._take()) is not None:
            admission.start()

    def end(self, admission: Admission) -> None:
        """Free the slots of this admission, and start what waits for them. A second call does nothing."""
        with self._lock:
            if admission not in self._running:
                return
            self._running.discard(admission)
        admission.return_room()
        self.start_next()

    def forget(self) -> None:
        """Forget what Celery has forgotten, because its connection was lost. Called when there is a new one."""
        with self._lock:
            self._running = {each for each in self._running if each.is_known}
        self.start_next()

    def _take(self) -> Admission | None:
        with self._lock:
            while self._waiting and (is_stopping() or not self._waiting[0].is_known):
                self._waiting.popleft().return_room()  # its message is given back
            if not self._waiting:
                return None
            first = self._waiting[0]
            if self._running and self._used() + first.cost > self.size:
                return None
            self._waiting.popleft()
            self._running.add(first)
            return first

    def _used(self) -> int:
        return min(self.size, sum(each.cost for each in self._running))


class Admission:
    """A request that waits for its slots, or has them. It takes the place of the request where the pool starts it."""

    def __init__(self, request: Any, cost: int, start: Callable[[Any], object], slots: Slots, qos: Any) -> None:
        self._request, self._own_cost, self._start, self._slots, self._qos = request, cost, start, slots, qos
        before: int = qos.value
        self._room: int = before - qos.decrement_eventually(self.cost - 1) if self.cost > 1 else 0

    @property
    def cost(self) -> int:
        """How many slots it takes."""
        return min(self._own_cost, self._slots.size)

    @property
    def is_known(self) -> bool:
        """Whether Celery has not forgotten it."""
        return any(each in state.reserved_requests for each in getattr(self._request, "requests", (self._request,)))

    def start(self) -> None:
        """Give it to the pool."""
        self._start(self)

    def execute_using_pool(self, pool: Any, **options: Any) -> Any:
        """Run the request in the pool. Its slots are free again when the pool reports its end, or if this raises."""
        for name in _WATCHED:
            setattr(self._request, name, self._watched(getattr(self._request, name), ends=name != "on_accepted"))
        try:
            return self._request.execute_using_pool(pool, **options)
        except BaseException:
            self._end()
            raise

    def return_room(self) -> None:
        """Raise the prefetch count again."""
        if self._room:
            self._qos.increment_eventually(self._room)

    def _watched(self, callback: Callable[..., Any], *, ends: bool) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            try:
                answer = callback(*args, **options)
            except BaseException:
                self._end()
                raise
            if ends:
                self._end()
            return answer

        return call

    def _end(self) -> None:
        attributes = cast("dict[str, Any]", self._request.__dict__)
        for name in _WATCHED:  # the message of the request is to be collected with it, and not later
            attributes.pop(name, None)
        self._slots.end(self)


def cost_of(task: Any) -> int:
    """How many slots a run of the task takes."""
    return max(1, int(getattr(task, "cost", 1) or 1))


def known_slots(consumer: Any) -> Slots | None:
    """The slots of the worker with this consumer, if they are counted."""
    attributes = cast("dict[str, Any]", consumer.__dict__)
    return attributes.get("_laneway_slots")


def slots_of(consumer: Any) -> Slots | None:
    """The slots of the worker with this consumer; None when no task of its app takes more than one."""
    known = known_slots(consumer)
    if known is None and any(cost_of(task) > 1 for task in consumer.app.tasks.values()):
        known = consumer._laneway_slots = Slots(consumer.pool)
    return known
