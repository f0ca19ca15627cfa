"""A task with the options of its next submissions: what `task.submit(...)` and `task.options(...).submit(...)` do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, cast

from pydantic import BaseModel

from laneway.platform.errors import InvalidPayload
from laneway.platform.project_platform import platform_to_submit
from laneway.platform.registry import TaskSpec
from laneway.platform.submission.invalid_options import InvalidOptions
from laneway.platform.submission.task_options import TaskOptions, checked, submit_options
from laneway.platform.submission.transaction import Submission
from laneway.platform.submission.user_session import is_async, sync_session
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskHandle


class Declared(Protocol):
    """How a call of a task becomes its payload."""

    def payload_of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Payload | dict[str, Any]:
        """The payload of a call, not validated. Raises InvalidPayload."""
        ...


@dataclass(frozen=True)
class BoundTask:
    """A task and the options of its submissions."""

    spec: TaskSpec
    declaration: Declared
    options: TaskOptions = field(default_factory=TaskOptions)

    def with_options(self, options: TaskOptions) -> BoundTask:
        """The same task with further options. Raises InvalidOptions."""
        merged = cast("TaskOptions", {**self.options, **options})
        return replace(self, options=checked(self.spec.name, merged))

    def submit(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskHandle:
        """Submit one task; see `FunctionTask.submit`."""
        return self._submit(self.one(args, kwargs))[0]

    def submit_many(self, calls: Iterable[object], ids: Sequence[str] | None) -> list[TaskHandle]:
        """Submit many tasks; see `FunctionTask.submit_many`."""
        return self._submit(self.many(calls, ids), is_batch=True)

    async def submit_async(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskHandle:
        """Submit one task from a coroutine; see `FunctionTask.submit_async`."""
        return (await self._submit_async(self.one(args, kwargs)))[0]

    async def submit_many_async(self, calls: Iterable[object], ids: Sequence[str] | None) -> list[TaskHandle]:
        """Submit many tasks from a coroutine; see `FunctionTask.submit_many_async`."""
        return await self._submit_async(self.many(calls, ids), is_batch=True)

    def one(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Submission]:
        """What `submit` submits. Raises InvalidPayload, InvalidOptions."""
        return [Submission(self.spec, self.declaration.payload_of(args, kwargs), submit_options(self.options))]

    def many(self, calls: Iterable[object], ids: Sequence[str] | None) -> list[Submission]:
        """What `submit_many` submits. Raises InvalidPayload, InvalidOptions."""
        payloads = [self._payload(call) for call in calls]
        if "id" in self.options or "idempotency_key" in self.options:
            raise InvalidOptions(self.spec.name, ["many tasks cannot have one id; use submit_many(..., ids=[...])"])
        if ids is not None and len(ids) != len(payloads):
            raise InvalidOptions(self.spec.name, [f"{len(payloads)} tasks have {len(ids)} ids"])
        options = submit_options(self.options)
        if ids is None:
            return [Submission(self.spec, payload, options) for payload in payloads]
        for id in ids:
            checked(self.spec.name, {"id": id})
        return [
            Submission(self.spec, payload, replace(options, id=id)) for payload, id in zip(payloads, ids, strict=True)
        ]

    def _payload(self, call: object) -> Payload | dict[str, Any]:
        if isinstance(call, BaseModel):
            return self.declaration.payload_of((call,), {})
        if isinstance(call, Mapping):
            return self.declaration.payload_of((), cast("Mapping[str, Any]", call))
        if isinstance(call, tuple | list):
            return self.declaration.payload_of(cast("Sequence[Any]", call), {})
        problem = f"expected a payload, a dict of arguments or a tuple of them, not {type(call).__name__}"
        raise InvalidPayload(self.spec.name, [problem])

    def _submit(self, submissions: list[Submission], *, is_batch: bool = False) -> list[TaskHandle]:
        session = self.options.get("session")
        if session is not None and is_async(session):
            raise InvalidOptions(self.spec.name, ["session: an asynchronous one needs `await ….submit_async(…)`"])
        own = sync_session(session)
        if session is not None and own is None:
            raise InvalidOptions(self.spec.name, ["session: expected a session or connection of SQLAlchemy"])
        tasks = platform_to_submit().tasks
        if own is not None:
            return tasks.submit_in(own, submissions)
        if is_batch:
            return tasks.submit_many(submissions)
        (one,) = submissions
        return [tasks.submit(one.task, one.payload, options=one.options)]

    async def _submit_async(self, submissions: list[Submission], *, is_batch: bool = False) -> list[TaskHandle]:
        session: Any = self.options.get("session")
        if session is None:
            return await asyncio.to_thread(self._submit, submissions, is_batch=is_batch)
        if not is_async(session):
            raise InvalidOptions(self.spec.name, ["session: submit_async needs an AsyncSession or AsyncConnection"])
        tasks = (await asyncio.to_thread(platform_to_submit)).tasks
        return await session.run_sync(partial(_submit_in, tasks, submissions))


def _submit_in(tasks: Any, submissions: list[Submission], session: Any) -> list[TaskHandle]:
    return tasks.submit_in(session, submissions)
