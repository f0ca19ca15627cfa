"""`laneway.batch(...)`: makes a batch with its first tasks, and adds tasks to one that exists."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from laneway.platform.batches.batches import LONGEST_ID, Batches, NewBatch
from laneway.platform.project_platform import platform_to_submit
from laneway.platform.registry import TaskRef
from laneway.platform.submission.bound_task import BoundTask
from laneway.platform.submission.invalid_options import InvalidOptions
from laneway.platform.submission.submit_options import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.schemas.batch import BatchCancelResponse, BatchView
from laneway.schemas.choices import BatchEvent
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskHandle

Callback: TypeAlias = TaskRef | tuple[TaskRef, Payload | Mapping[str, Any]]
"""A task, or a task and its payload."""


class Submittable(Protocol):
    """A task that `@task` has made, perhaps with options."""

    def bound(self) -> BoundTask:
        """The task with its options."""
        ...


class Batch:
    """A batch of tasks. `laneway.Batch(id)` is one that exists."""

    def __init__(self, id: str, *, batches: Batches | None = None) -> None:
        """`batches`: None for those of this process's platform."""
        self.id = id
        self._batches = batches

    def add(self, task: Submittable, *args: Any, **kwargs: Any) -> TaskHandle:
        """Submit one task into the batch; its arguments are those of `task.submit`.

        A closed batch takes tasks as long as one of its tasks has not ended, so a running one may add more. An attempt
        that is repeated adds them again, unless they have ids: `batch.add(task.options(id=f"{ctx.id}:part-1"), …)`.

        Raises BatchOver, NotFound, and as `task.submit`.
        """
        return self._add(_one(task, args, kwargs))[0]

    def add_many(
        self, task: Submittable, calls: Iterable[object], *, ids: Sequence[str] | None = None
    ) -> list[TaskHandle]:
        """Submit many tasks into the batch in one transaction: all, or none; the arguments are as of `submit_many`."""
        return self._add(_many(task, calls, ids))

    def close(self) -> BatchView:
        """Let the batch end with the last of its tasks. Raises NotFound."""
        return self._service.close(self.id)

    def cancel(self) -> BatchCancelResponse:
        """Refuse further tasks, and cancel those that have not ended, at most 1000 a call. Raises NotFound."""
        return self._service.cancel(self.id)

    def view(self) -> BatchView:
        """The batch with its progress, as of now. Raises NotFound."""
        return self._service.view(self.id)

    @property
    def _service(self) -> Batches:
        return self._batches or platform_to_submit().batches

    def _add(self, submissions: list[Submission]) -> list[TaskHandle]:
        return self._service.add(self.id, submissions)


class BatchInMaking:
    """A batch that is made, with its tasks, at the end of its `with` block: all of it, or nothing after an error."""

    def __init__(self, new: NewBatch) -> None:
        self._new, self._tasks = new, list[Submission]()
        self.batch = Batch(new.id)
        """The batch; it exists after the block."""
        self.handles = list[TaskHandle]()
        """The receipts of its tasks, after the block; empty if the batch existed before."""

    @property
    def id(self) -> str:
        """The id of the batch."""
        return self._new.id

    def add(self, task: Submittable, *args: Any, **kwargs: Any) -> None:
        """Add a task; its arguments are those of `task.submit`. Raises InvalidPayload."""
        self._tasks += _one(task, args, kwargs)

    def add_many(self, task: Submittable, calls: Iterable[object], *, ids: Sequence[str] | None = None) -> None:
        """Add many tasks; the arguments are as of `task.submit_many`. Raises InvalidPayload."""
        self._tasks += _many(task, calls, ids)

    def make(self) -> Batch:
        """Make the batch now, without a `with` block. A second call changes nothing.

        Raises Conflict for an id that another batch has, and as `task.submit_many`.
        """
        new = self._new
        whole = NewBatch(
            id=new.id,
            description=new.description,
            callbacks=new.callbacks,
            tasks=tuple(self._tasks),
            is_open=new.is_open,
        )
        self.handles = platform_to_submit().batches.create(whole).tasks or self.handles
        return self.batch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.make()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await asyncio.to_thread(self.make)


def batch(
    description: str = "",
    *,
    id: str | None = None,
    on_success: Callback | None = None,
    on_complete: Callback | None = None,
    on_death: Callback | None = None,
    keep_open: bool = False,
) -> BatchInMaking:
    """Make a batch: a group of tasks that end together.

        with laneway.batch("Invoices of April", on_success=(send_report, {"month": 4})) as batch:
            batch.add_many(send_invoice, [{"number": number} for number in numbers])

    The batch and its tasks are accepted in one transaction at the end of the block. A callback is a task, or a task
    and its payload; it is submitted once, in the transaction that decides. If it has a parameter `batch_id` that is not
    given, it gets the id of the batch.

    `id`: a repeat with the same contents changes nothing. `keep_open`: more tasks follow; the batch does not end before
    `Batch.close`. `on_success`: when all tasks are completed. `on_complete`: when all have ended for the first time.
    `on_death`: when the first one fails or becomes a dead letter. Raises InvalidOptions.
    """
    problems = _problems(description, id)
    if problems:
        raise InvalidOptions("batch", problems)
    given = {BatchEvent.SUCCESS: on_success, BatchEvent.COMPLETE: on_complete, BatchEvent.DEATH: on_death}
    callbacks = {event: _callback(each) for event, each in given.items() if each is not None}
    options: dict[str, Any] = {} if id is None else {"id": id}
    return BatchInMaking(NewBatch(**options, description=description, callbacks=callbacks, is_open=keep_open))


def _problems(description: str, id: str | None) -> list[str]:
    problems: list[str] = []
    if len(description) > 200 or "\x00" in description:
        problems.append("description: at most 200 characters, and no NUL")
    if id is not None and (not 0 < len(id) <= LONGEST_ID or "\x00" in id):
        problems.append(f"id: 1 to {LONGEST_ID} characters, and no NUL")
    return problems


def _callback(given: Callback) -> Submission:
    if not isinstance(given, tuple):
        return Submission(given, {}, SubmitOptions())
    task, payload = given
    return Submission(task, payload if isinstance(payload, Payload) else dict(payload), SubmitOptions())


def _one(task: Submittable, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Submission]:
    return _without_session(task).one(args, kwargs)


def _many(task: Submittable, calls: Iterable[object], ids: Sequence[str] | None) -> list[Submission]:
    return _without_session(task).many(calls, ids)


def _without_session(task: Submittable) -> BoundTask:
    """Raises InvalidOptions for a task with a session: the batch is committed in a transaction of its own."""
    bound = task.bound()
    if "session" in bound.options:
        raise InvalidOptions(bound.spec.name, ["session: with one, use task.options(batch=…, session=…).submit(…)"])
    return bound
