"""What a step handler is given, and what it gives back.

A handler is a function of one `StepCall`. It may be called again for the same visit after its worker died: its effects
are stored under `call.task.id`, or done in `call.task.step(...)`. It returns

- a dict or a model: the step is ok, and that is its output;
- `failed(reason, ...)`: it found out that something is not as it should be; no crash, and no retry;
- or it raises: an error that a retry may help is retried (`max_retries`), any other makes the step fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from laneway.platform.schemas.workflow import Outcome

Item = TypeVar("Item")


class Running(Protocol):
    """The task that runs a step; `PlatformTask` is one."""

    @property
    def id(self) -> str:
        """Its id: the same for each attempt at this visit of the step."""
        ...

    @property
    def attempt(self) -> int:
        """How often it has been started, this time included."""
        ...

    def progress(self, percent: float, message: str | None = None, **counters: float) -> None:
        """Say how far it is (0-100); raises TaskCancelled when it was asked to stop."""
        ...

    def raise_if_cancelled(self) -> None:
        """Raise TaskCancelled when it was asked to stop."""
        ...

    def step(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do a part once, however often the task is started."""
        ...

    def loop(self, name: str, items: Sequence[Item]) -> Iterator[Item]:
        """Go through items once, however often the task is started."""
        ...


class NoOptions(BaseModel):
    """For handlers without arguments of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """One call of a handler."""

    task: Running
    run_id: str
    workflow_type: str
    step: str
    visit: int
    """From 1; a loop that leads back counts it up."""
    input: Mapping[str, Any]
    """What the run was started with."""
    options: Any
    """The step's `with`, as the handler's type."""
    outputs: Mapping[str, dict[str, Any]]
    """Step → output, of everything that this step comes after; in a loop, also of its last round."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of a step."""

    output: dict[str, Any] = field(default_factory=dict[str, Any])
    outcome: Outcome = Outcome.OK
    reason: str | None = None


Returned = StepResult | BaseModel | dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that steps may name."""

    name: str
    work: Callable[[StepCall], Returned]
    options: type[BaseModel] = NoOptions


def failed(reason: str, output: dict[str, Any] | None = None) -> StepResult:
    """The step found out that something is not as it should be."""
    return StepResult(output or {}, Outcome.FAILED, reason)


def result_of(returned: Returned) -> StepResult:
    """What a handler returned, as a result."""
    if isinstance(returned, StepResult):
        return returned
    if isinstance(returned, BaseModel):
        return StepResult(returned.model_dump(mode="json"))
    return StepResult(returned or {})
