"""`@task`: declares a function as a task. What it returns is submitted with the function's own parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Concatenate, Final, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, Unpack, cast, overload

from celery.utils.threads import LocalStack
from pydantic import BaseModel

from laneway.engine.flow_fields import MAX_LIMITS
from laneway.platform.execution.chunk import ChunkContext
from laneway.platform.execution.context import Context
from laneway.platform.execution.declaration import (
    Declaration,
    checked_aliases,
    checked_cost,
    checked_delays,
    checked_if_busy,
    checked_retries,
    declaration_of,
)
from laneway.platform.execution.task import PlatformTask
from laneway.platform.flow.chunk import Chunk
from laneway.platform.flow.task_flow import Limit, TaskFlow
from laneway.platform.queues import Priority
from laneway.platform.registry import BadTask, TaskSpec, registry
from laneway.platform.submission.bound_task import BoundTask
from laneway.platform.submission.task_options import IfBusyName, TaskOptions
from laneway.schemas.choices import IfBusy
from laneway.schemas.history import A_YEAR
from laneway.schemas.task import TaskHandle

P = ParamSpec("P")
Model = TypeVar("Model", bound=BaseModel)
Result = TypeVar("Result", bound=BaseModel | Mapping[str, Any] | None, covariant=True)
Call: TypeAlias = Mapping[str, Any] | tuple[Any, ...] | list[Any]
"""The arguments of one task: by name, or by position."""
OPTIONS: Final = frozenset({"key", "priority", "on_failure", "role", "internal", "encrypted"})
"""Options of `@task` that are fields of `TaskSpec`."""
FLOW_OPTIONS: Final = frozenset({"limits", "needs", "tenant", "deadline"})
"""Options of `@task` that are fields of `TaskFlow`."""


class FunctionSubmissions(Generic[P]):
    """Submits a task whose function has plain parameters; they are the arguments of a submission."""

    def bound(self) -> BoundTask:
        """The task with its options."""
        raise NotImplementedError

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle:
        """Submit one task.

        While the broker cannot be reached, the task is stored in the state `accepted` and sent later. Uniqueness and
        durability need the broker now: with them BrokerUnavailable is raised instead.
        Raises InvalidPayload, UnknownQueue, Conflict (same id, other payload), DuplicateTask, QueueFull, HistoryBehind,
        Unsupported, OtherDatabase (of a session): nothing is stored or queued. Raises NotDurable: the task is accepted,
        and a repeat with its id asks for the durability again. Raises ConfigError when this process has no platform.
        """
        return self.bound().submit(args, kwargs)

    def submit_many(self, calls: Iterable[Call], *, ids: Sequence[str] | None = None) -> list[TaskHandle]:
        """Submit many tasks in one transaction: all, or none. Each call is a dict or a tuple of arguments.

        `ids`: an id for each. Raises as `submit` for the first one that cannot be accepted.
        """
        return self.bound().submit_many(calls, ids)

    async def submit_async(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle:
        """Submit one task from a coroutine. The event loop goes on meanwhile; a cancel does not take the task back."""
        return await self.bound().submit_async(args, kwargs)

    async def submit_many_async(self, calls: Iterable[Call], *, ids: Sequence[str] | None = None) -> list[TaskHandle]:
        """Submit many tasks from a coroutine, as `submit_many` does."""
        return await self.bound().submit_many_async(calls, ids)

    def options(self, **options: Unpack[TaskOptions]) -> FunctionTaskWithOptions[P]:
        """The task with these options for its submissions. Raises InvalidOptions, which names each mistake."""
        return FunctionTaskWithOptions(self.bound().with_options(options))


class PayloadSubmissions(Generic[Model]):
    """Submits a task whose function takes one payload; its fields are the arguments of a submission."""

    def bound(self) -> BoundTask:
        """The task with its options."""
        raise NotImplementedError

    @overload
    def submit(self, payload: Model | Mapping[str, Any], /) -> TaskHandle: ...
    @overload
    def submit(self, **fields: Any) -> TaskHandle: ...
    def submit(self, *args: Any, **fields: Any) -> TaskHandle:
        """Submit one task, with a payload or its fields by name. Raises as `FunctionSubmissions.submit`."""
        return self.bound().submit(args, fields)

    def submit_many(
        self, payloads: Iterable[Model | Mapping[str, Any]], *, ids: Sequence[str] | None = None
    ) -> list[TaskHandle]:
        """Submit many tasks in one transaction: all, or none. `ids`: an id for each."""
        return self.bound().submit_many(payloads, ids)

    @overload
    async def submit_async(self, payload: Model | Mapping[str, Any], /) -> TaskHandle: ...
    @overload
    async def submit_async(self, **fields: Any) -> TaskHandle: ...
    async def submit_async(self, *args: Any, **fields: Any) -> TaskHandle:
        """Submit one task from a coroutine. The event loop goes on meanwhile; a cancel does not take the task back."""
        return await self.bound().submit_async(args, fields)

    async def submit_many_async(
        self, payloads: Iterable[Model | Mapping[str, Any]], *, ids: Sequence[str] | None = None
    ) -> list[TaskHandle]:
        """Submit many tasks from a coroutine, as `submit_many` does."""
        return await self.bound().submit_many_async(payloads, ids)

    def options(self, **options: Unpack[TaskOptions]) -> PayloadTaskWithOptions[Model]:
        """The task with these options for its submissions. Raises InvalidOptions, which names each mistake."""
        return PayloadTaskWithOptions(self.bound().with_options(options))


class FunctionTaskWithOptions(FunctionSubmissions[P]):
    """A task with plain parameters and the options of its submissions."""

    def __init__(self, bound: BoundTask) -> None:
        self._bound = bound

    def bound(self) -> BoundTask:
        return self._bound


class PayloadTaskWithOptions(PayloadSubmissions[Model]):
    """A task with a payload and the options of its submissions."""

    def __init__(self, bound: BoundTask) -> None:
        self._bound = bound

    def bound(self) -> BoundTask:
        return self._bound


class FunctionTask(FunctionSubmissions[P], PlatformTask, Generic[P, Result]):
    """A declared task whose function has plain parameters."""

    abstract = True

    def bound(self) -> BoundTask:
        return BoundTask(self.spec, self.declaration)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Call the function, as a part of the running task if there is one. Nothing is submitted."""
        return super().__call__(*args, **kwargs)


class PayloadTask(PayloadSubmissions[Model], PlatformTask, Generic[Model, Result]):
    """A declared task whose function takes one payload."""

    abstract = True

    def bound(self) -> BoundTask:
        return BoundTask(self.spec, self.declaration)

    def __call__(self, *args: Any, **kwargs: Any) -> Result:
        """Call the function, as a part of the running task if there is one. Nothing is submitted."""
        return super().__call__(*args, **kwargs)


class Decorator(Protocol):
    """Makes a task of a function."""

    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload] - a payload is a kind of argument: the first one goes
        self, work: Callable[[Context, Model], Result], /
    ) -> PayloadTask[Model, Result]: ...
    @overload
    def __call__(self, work: Callable[[Model], Result], /) -> PayloadTask[Model, Result]: ...
    @overload
    def __call__(self, work: Callable[Concatenate[Context, P], Result], /) -> FunctionTask[P, Result]: ...
    @overload
    def __call__(self, work: Callable[P, Result], /) -> FunctionTask[P, Result]: ...


class ChunkDecorator(Protocol):
    """Makes a task of a function that handles many of its tasks at once."""

    @overload
    def __call__(self, work: Callable[[ChunkContext, list[Model]], object], /) -> PayloadTask[Model, Any]: ...
    @overload
    def __call__(self, work: Callable[[list[Model]], object], /) -> PayloadTask[Model, Any]: ...


@overload
def task(work: Callable[[Context, Model], Result], /) -> PayloadTask[Model, Result]: ...  # pyright: ignore[reportOverlappingOverload] - as above
@overload
def task(work: Callable[[Model], Result], /) -> PayloadTask[Model, Result]: ...
@overload
def task(work: Callable[Concatenate[Context, P], Result], /) -> FunctionTask[P, Result]: ...
@overload
def task(work: Callable[P, Result], /) -> FunctionTask[P, Result]: ...
@overload
def task(
    *,
    queue: str | None = None,
    name: str | None = None,
    key: str | None = None,
    if_busy: IfBusy | IfBusyName = IfBusy.WAIT,
    priority: Priority = Priority.NORMAL,
    retries: int | None = None,
    delays: Sequence[float] | None = None,
    on_failure: str | None = None,
    role: str | None = None,
    internal: bool = False,
    aliases: Sequence[str] = (),
    encrypted: bool = False,
    limits: Sequence[Limit] = (),
    needs: Sequence[str] = (),
    tenant: str | None = None,
    deadline: float | None = None,
    cost: int = 1,
) -> Decorator: ...
@overload
def task(
    *,
    chunk: Chunk,
    queue: str | None = None,
    name: str | None = None,
    key: str | None = None,
    if_busy: IfBusy | IfBusyName = IfBusy.WAIT,
    priority: Priority = Priority.NORMAL,
    retries: int | None = None,
    delays: Sequence[float] | None = None,
    on_failure: str | None = None,
    internal: bool = False,
    aliases: Sequence[str] = (),
    encrypted: bool = False,
    limits: Sequence[Limit] = (),
    needs: Sequence[str] = (),
    tenant: str | None = None,
    deadline: float | None = None,
    cost: int = 1,
) -> ChunkDecorator: ...
def task(work: Callable[..., Any] | None = None, /, **declaration: Any) -> Any:
    """Declare a function as a task: workers run it, and callers submit it.

        @task(queue="mail", retries=3)
        def greet(ctx: Context, payload: Greeting) -> dict[str, str]: ...

        greet.submit(name="Ada")
        greet.options(delay=60).submit(name="Ada")

    The first parameter is the running task, if it is annotated with `laneway.Context`. What follows is one payload,
    a subclass of `laneway.Payload`, or plain parameters, each with a type; their names are the fields of the payload.
    Submissions are validated by these types. Positional arguments of a Celery call are the first fields, also the
    result that a chain or a chord passes on.

    `queue`: a declared queue. Default: the one called "default", or the only one there is.
    `name`: default: the function's name. `priority`: of the task within its queue.
    `key`: a field; tasks with the same value run one at a time, in order. `if_busy`: what to do while another is there.
    `retries`: how often a failed task runs again; default: TASK_MAX_RETRIES.
    `delays`: seconds before each retry, the last one repeated; default: exponential backoff from TASK_RETRY_DELAY.
    `on_failure`: name of the task that is submitted, with `EndedTask`, when this one ends without being completed.
    `role`: the purpose for which the platform itself submits the task, if there is one.
    `internal`: nobody may submit the task from outside, by the API or the command line; an `on_failure` task is so.
    `aliases`: earlier names of the task; what was sent, stored or scheduled under them is run by this one.
    `limits`: limits with names, such as that of an API, which other tasks may share (`laneway.Limit`).
    `needs`: labels, such as "gpu"; only a worker that has all of them runs the task.
    `tenant`: a field of the payload; tenants take turns, so that many tasks of one do not delay those of another.
    `deadline`: seconds from the submission; of tasks of one priority, those with an earlier deadline go first.
    `cost`: how many slots of a worker (`-c`) a run takes; more than it has means that it runs alone.
    `chunk`: the function takes a list of payloads, those of many of its tasks at once (`laneway.Chunk`).
    `encrypted`: payloads, results and steps are encrypted in database and broker, with the keys of KEY_RING_FILE.

    Raises BadTask, which names the mistake, when the declaration cannot work.
    """

    def declare(work: Callable[..., Any]) -> PlatformTask:
        return _register(work, **declaration)

    return declare if work is None else declare(work)


def _register(
    work: Callable[..., Any],
    *,
    queue: str | None = None,
    name: str | None = None,
    retries: int | None = None,
    delays: Sequence[float] | None = None,
    aliases: Sequence[str] = (),
    if_busy: str = IfBusy.WAIT,
    chunk: Chunk | None = None,
    cost: int = 1,
    **options: Any,
) -> PlatformTask:
    name = name or work.__name__
    flow = {option: options.pop(option) for option in FLOW_OPTIONS & options.keys()}
    if unknown := sorted(options.keys() - OPTIONS):
        raise BadTask(name, f"@task has no option {unknown[0]!r}.")
    declaration = declaration_of(work, task=name, is_chunk=chunk is not None)
    spec = TaskSpec(
        name=name,
        own_queue=queue,
        payload=declaration.payload,
        max_retries=checked_retries(retries, task=name),
        delays=checked_delays(delays, task=name),
        aliases=checked_aliases(aliases, task=name),
        flow=_checked_flow(name, **flow),
        if_busy=checked_if_busy(if_busy, task=name),
        chunk=_checked_chunk(name, chunk),
        cost=checked_cost(cost, task=name),
        **options,
    )
    instance = _instance(work, declaration, spec)
    registry.add(spec, instance, source=f"{work.__module__}.{work.__qualname__}")
    return instance


def _instance(work: Callable[..., Any], declaration: Declaration, spec: TaskSpec) -> PlatformTask:
    attributes: dict[str, Any] = {
        "name": spec.name,
        "spec": spec,
        "declaration": declaration,
        "work": staticmethod(work),
        "request_stack": LocalStack(),  # Celery sets one only when an app has the task
        "__doc__": work.__doc__,
        "__module__": work.__module__,
    }
    if spec.chunk is not None:
        attributes["track_started"] = False  # the tracer, which runs after the function, would note it too late
    base = FunctionTask if declaration.is_plain else PayloadTask
    return cast("type[PlatformTask]", type(work.__name__, (base,), attributes))()


def _checked_chunk(task: str, chunk: object) -> Chunk | None:
    if chunk is not None and not isinstance(chunk, Chunk):
        raise BadTask(task, "chunk must be a laneway.Chunk: chunk=Chunk(size=100, seconds=2).")
    return chunk


def _checked_flow(
    task: str,
    *,
    limits: Sequence[Limit] = (),
    needs: Sequence[str] = (),
    tenant: str | None = None,
    deadline: float | None = None,
) -> TaskFlow:
    """Raises BadTask for limits, labels or a deadline that cannot work."""
    given = cast("object", limits)
    if not isinstance(given, Sequence) or not all(isinstance(each, Limit) for each in cast("Sequence[object]", given)):
        raise BadTask(task, "limits must be a list of laneway.Limit.")
    if isinstance(needs, str) or not all(label and "," not in label for label in needs):
        raise BadTask(task, "needs must be a list of labels, which are not empty and have no comma.")
    if len(limits) > MAX_LIMITS:
        raise BadTask(task, f"it has more than {MAX_LIMITS} limits.")
    if deadline is not None and not 0 < deadline <= A_YEAR:
        raise BadTask(task, "deadline must be a number of seconds, more than 0 and at most a year.")
    if deadline is not None and tenant is not None:
        raise BadTask(task, "it has a tenant and a deadline, and each gives it another turn; give one of the two.")
    return TaskFlow(limits=tuple(limits), needs=tuple(needs), tenant=tenant, deadline=deadline)
