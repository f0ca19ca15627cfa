"""The running chunk, as the function of a chunk task sees it, and what its return value means for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Generic, Protocol, TypeVar, cast

from billiard.exceptions import SoftTimeLimitExceeded
from pydantic import BaseModel
from structlog.stdlib import BoundLogger

from laneway.platform.errors import TaskCancelled, TaskSnoozed, TimeLimitExceeded
from laneway.platform.execution.outcomes import Attempt, Completed, Outcome, Raised, Snoozed, Stopped
from laneway.platform.logging import logger
from laneway.platform.platform import Platform
from laneway.platform.registry import TaskSpec
from laneway.platform.sealing import opened_payload
from laneway.platform.submission.acceptance import validated
from laneway.schemas.payload import Payload

Model = TypeVar("Model", bound=BaseModel)


class ChunkItem(Generic[Model]):
    """One task of a chunk: its `id`, the number of this `attempt` from 1, and its `payload`."""

    def __init__(self, attempt: Attempt, payload: Model) -> None:
        self._attempt, self.payload = attempt, payload

    @property
    def id(self) -> str:
        """The id of the task. It stays the same in every attempt."""
        return self._attempt.task_id

    @property
    def attempt(self) -> int:
        """The number of this attempt: 1 for the first one, 2 for the first retry."""
        return self._attempt.number

    @property
    def is_cancelled(self) -> bool:
        """Whether the task was cancelled while the chunk runs. The others go on; TaskCancelled is a result for it."""
        return self._attempt.cancel_requested


class ChunkContext:
    """The running chunk. A function gets it as its first parameter, if that is annotated with `ChunkContext`.

        @task(queue="mails", chunk=Chunk(size=100, seconds=2))
        def send_mails(ctx: ChunkContext, payloads: list[Mail]) -> list[dict[str, str] | Exception | None]: ...

    `items` are the tasks, in the order of the payloads. `id` is the id of the first of them. What the function returns
    or raises decides about each task:

    | the function | its tasks |
    |---|---|
    | returns None | are completed without a result |
    | returns a list, one entry for each payload | an exception is the error of its task, another entry its result |
    | raises an error | all have this error: each is retried, or ends, by its own count of attempts |
    """

    def __init__(self, id: str, name: str, items: Sequence[ChunkItem[Any]], platform: Platform) -> None:
        self.id, self.name, self.items, self.platform = id, name, list(items), platform

    @property
    def log(self) -> BoundLogger:
        """A logger. Its lines become events of the first task of the chunk."""
        return logger(self.name)


class RunsChunks(Protocol):
    """What is needed of a `PlatformTask`."""

    spec: TaskSpec

    @property
    def platform(self) -> Platform:
        """The platform of this process."""
        ...

    @property
    def soft_limit(self) -> float:
        """The soft time limit in seconds."""
        ...

    def call_chunk(self, context: ChunkContext, payloads: list[Payload]) -> object:
        """Call the function."""
        ...


def work_on_chunk(task: RunsChunks, attempts: Sequence[Attempt], *, id: str) -> list[Outcome]:
    """Run the function once for these attempts; return the outcome of each, in their order."""
    outcomes: dict[Attempt, Outcome] = {}
    items: dict[Attempt, ChunkItem[Payload]] = {}
    for attempt in attempts:
        try:
            items[attempt] = ChunkItem(attempt, validated(task.spec, opened_payload(attempt.payload)))
        except Exception as error:  # noqa: BLE001  whatever one payload causes is the outcome of its task
            outcomes[attempt] = outcome_of(error, task.soft_limit)
    if items:
        outcomes |= zip(items, _outcomes(task, id, items), strict=True)
    return [outcomes[attempt] for attempt in attempts]


def _outcomes(task: RunsChunks, id: str, items: Mapping[Attempt, ChunkItem[Payload]]) -> list[Outcome]:
    context = ChunkContext(id, task.spec.name, list(items.values()), task.platform)
    try:
        with ExitStack() as watched:
            for attempt in items:
                watched.enter_context(task.platform.cancellation_watchdog.watch(attempt, interrupt=False))
            returned = task.call_chunk(context, [item.payload for item in items.values()])
        return split(returned, len(items), time_limit=task.soft_limit)
    except Exception as error:  # noqa: BLE001  whatever the function raises is the outcome of all
        return [outcome_of(error, task.soft_limit)] * len(items)


def split(returned: object, size: int, *, time_limit: float) -> list[Outcome]:
    """The outcome of each of `size` tasks whose function has returned this."""
    if returned is None:
        return [Completed(None)] * size
    if not isinstance(returned, list | tuple):
        problem = f"the chunk task returned {type(returned).__name__}; return None, or a list with one entry a payload"
        return [Raised(TypeError(problem))] * size
    entries = cast("Sequence[object]", returned)
    if len(entries) != size:
        problem = f"the chunk task returned {len(entries)} entries for {size} payloads; each payload needs one"
        return [Raised(TypeError(problem))] * size
    return [_outcome_of_entry(entry, time_limit) for entry in entries]


def outcome_of(error: BaseException, time_limit: float) -> Outcome:
    """The outcome of a task whose function has raised this error."""
    if isinstance(error, TaskCancelled):
        return Stopped()
    if isinstance(error, TaskSnoozed):
        return Snoozed(error.delay, error.reason)
    return Raised(TimeLimitExceeded(time_limit) if isinstance(error, SoftTimeLimitExceeded) else error)


def _outcome_of_entry(entry: object, time_limit: float) -> Outcome:
    if isinstance(entry, BaseException):
        return outcome_of(entry, time_limit)
    try:
        return Completed(as_dict(entry))
    except TypeError as error:
        return Raised(error)


def as_dict(result: object) -> dict[str, Any] | None:
    """The result of a task as JSON has it. Raises TypeError."""
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    if result is None or isinstance(result, Mapping):
        return None if result is None else dict(cast("Mapping[str, Any]", result))
    raise TypeError(f"the task returned {type(result).__name__}; return a dict, a pydantic model or None")
