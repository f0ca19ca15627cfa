"""Step handlers: what a handler is given, and what it may return.

A handler is a function that takes a `StepCall`. After a crash of its worker it may be called again for the same visit
(one run of the step). So it has to store its effects under `call.task.id`, or do its work in `call.task.step(...)`.

- It returns a dict or a model: the step succeeds, and this is its output.
- It returns `Children([...])`: tasks or workflows do the work, and the step ends when they have ended.
- It returns `failed(reason, ...)`: the step found a problem in what it examined. That is no crash, and is not retried.
- It raises: an error that a retry may help is retried (`max_retries`); any other error makes the step fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from laneway.schemas.workflow import Failures, Outcome

Item = TypeVar("Item")


class StepTask(Protocol):
    """The task that runs a step; `laneway.Context` is one."""

    @property
    def id(self) -> str:
        """The id of the task: the same for each attempt at this visit."""
        ...

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        ...

    def progress(self, percent: float, message: str | None = None, **counters: float) -> None:
        """Report the progress (0-100). Raises TaskCancelled when the task was asked to stop."""
        ...

    def raise_if_cancelled(self) -> None:
        """Raise TaskCancelled when the task was asked to stop."""
        ...

    def step(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do a part of the work once, even if the task is started several times."""
        ...

    def loop(self, name: str, items: Sequence[Item]) -> Iterator[Item]:
        """Iterate over items once, even if the task is started several times."""
        ...


class NoOptions(BaseModel):
    """The options of a handler that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """One call of a handler."""

    task: StepTask
    run_id: str
    workflow_type: str
    step: str
    visit: int
    """From 1; each round of a loop is a further visit."""
    input: Mapping[str, Any]
    """The input of the run."""
    options: Any
    """The step's `with`, as the handler's `options` type."""
    item: Any = None
    """The item, if the step runs for each item of a list."""
    index: int | None = None
    """The number of that item, from 0."""
    outputs: Mapping[str, dict[str, Any]]
    """Step → newest output, for all steps that this one comes after; in a loop also for the steps of its last round."""


@dataclass(frozen=True, slots=True)
class ChildTask:
    """A task that a step starts."""

    name: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChildWorkflow:
    """A workflow that a step starts."""

    type: str
    input: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Children:
    """What a handler returns whose step is done by tasks, or by workflows, that it chose when it ran.

    They are stored; the handler is not called again. The output of the step is `{"results": [...], "failed": [...]}`.
    """

    children: Sequence[ChildTask | ChildWorkflow]
    at_once: int = 10
    failures: Failures = Failures.FAIL


@dataclass(frozen=True, slots=True)
class StepResult:
    """How a step ended."""

    output: dict[str, Any] = field(default_factory=dict[str, Any])
    outcome: Outcome = Outcome.OK
    reason: str | None = None
    """Why it failed."""


Returned = StepResult | Children | BaseModel | dict[str, Any] | None
"""What a handler may return."""


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that does the work of steps, and the name by which definitions refer to it."""

    name: str
    work: Callable[[StepCall], Returned]
    options: type[BaseModel] = NoOptions


def failed(reason: str, output: dict[str, Any] | None = None) -> StepResult:
    """Return a failure: the step found a problem, and `reason` describes it."""
    return StepResult(output or {}, Outcome.FAILED, reason)


def result_of(returned: StepResult | BaseModel | dict[str, Any] | None) -> StepResult:
    """Convert what a handler returned to a result."""
    if isinstance(returned, StepResult):
        return returned
    if isinstance(returned, BaseModel):
        return StepResult(returned.model_dump(mode="json"))
    return StepResult(returned or {})
