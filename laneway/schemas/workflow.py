"""Workflow definitions as data: the content of a YAML file.

`docs/workflows.md` explains each field. `laneway/platform/workflows/plan.py` checks how the steps fit together.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from laneway.schemas.model import Model

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
"""Name of a definition, step, handler or signal: at most 40 small letters, digits, ``_`` and ``-``."""
TaskName = Annotated[str, StringConstraints(min_length=1, max_length=155, pattern=r"^[^\x00]+$")]
MAX_STEPS, MAX_ROUNDS = 100, 100
LONGEST_WAIT = 366 * 86_400
LONGEST_TIMEOUT = 86_400
MOST_ITEMS, MOST_AT_ONCE = 10_000, 100


class StepKind(StrEnum):
    """What a step does."""

    TASK = "task"
    WAIT = "wait"
    SIGNAL = "signal"


class Outcome(StrEnum):
    """How a step ended. `failed`: the step reported a problem as its result, raised an error, or timed out."""

    OK = "ok"
    FAILED = "failed"


class Condition(StrEnum):
    """The outcome of a predecessor that a step requires; `any` includes failed and skipped."""

    OK = "ok"
    FAILED = "failed"
    ANY = "any"


class _Frozen(Model):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Loop(_Frozen):
    """The step with which the run continues after a failure, and how often it does so at most."""

    goto: Name
    at_most: int = Field(strict=True, ge=1, le=MAX_ROUNDS)


class Failures(StrEnum):
    """What failed items of a fan-out lead to.

    `fail`: all items run, and then the step fails. `stop`: no further item starts, running ones are cancelled, and the
    step fails. `allow`: the step succeeds, and its output names the items that failed.
    """

    FAIL = "fail"
    STOP = "stop"
    ALLOW = "allow"


class ForEach(_Frozen):
    """A step runs once for each item of a list, and each item is a task or a workflow of its own."""

    items: str | tuple[Any, ...] = Field(description="A list, or a reference to one, such as `$input.files`")
    at_once: int = Field(10, strict=True, ge=1, le=MOST_AT_ONCE)
    at_most: int = Field(1_000, strict=True, ge=1, le=MOST_ITEMS, description="A longer list fails the step")
    failures: Failures = Failures.FAIL


class StepDefinition(_Frozen):
    """One step. Times are in seconds."""

    name: Name
    kind: StepKind = StepKind.TASK
    handler: Name | None = Field(None, description="For `task`: name of the registered handler")
    task: TaskName | None = Field(None, description="For `task`, instead of a handler: name of a registered task")
    workflow: Name | None = Field(None, description="For `task`, instead of a handler: name of a workflow")
    options: dict[str, Any] = Field(
        default_factory=dict,
        alias="with",
        description="For `task`: arguments of the handler, the payload of the task, or the input of the workflow",
    )
    for_each: ForEach | None = Field(None, description="For `task`: run once for each item of a list")
    after: tuple[Name, ...] = Field((), max_length=MAX_STEPS)
    when: dict[Name, Condition] = Field(default_factory=dict)
    queue: str = "workflows"
    max_retries: int | None = Field(None, strict=True, ge=0, le=100)
    timeout: float | None = Field(None, gt=0, le=LONGEST_WAIT)
    seconds: float | None = Field(None, ge=0, le=LONGEST_WAIT, description="For `wait`")
    signal: Name | None = Field(None, description="For `signal`: name of the signal, if it is not the step's name")
    on_timeout: Outcome = Outcome.FAILED
    on_failed: Loop | None = None
    then: Name | None = Field(None, description="The step that follows. A step with `then` is reached only by a loop")

    @property
    def predecessors(self) -> tuple[str, ...]:
        """The steps that this one comes after; those named in `when` are among them."""
        return tuple(dict.fromkeys((*self.after, *self.when)))

    @property
    def has_children(self) -> bool:
        """Whether its work is done by other tasks or workflows, for which its own task waits."""
        return self.task is not None or self.workflow is not None or self.for_each is not None

    @property
    def signal_name(self) -> str:
        """The name of the signal that a `signal` step waits for."""
        return self.signal or self.name

    def condition(self, predecessor: str) -> Condition:
        """Return the outcome of a predecessor that this step requires."""
        return self.when.get(predecessor, Condition.OK)

    @model_validator(mode="after")
    def _require_fields_of_its_kind(self) -> Self:
        needed = {StepKind.WAIT: "seconds", StepKind.SIGNAL: "timeout"}.get(self.kind)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"a step of kind {self.kind.value!r} needs {needed!r}")
        does = [name for name in ("handler", "task", "workflow") if getattr(self, name) is not None]
        if self.kind is StepKind.TASK and not does:
            raise ValueError("a step of kind 'task' needs 'handler', 'task' or 'workflow'")
        if len(does) > 1:
            raise ValueError(f"a step has only one of {' and '.join(does)}")
        misplaced = {
            **dict.fromkeys(does, self.kind is not StepKind.TASK),
            "for_each": self.for_each is not None and self.kind is not StepKind.TASK,
            "with": bool(self.options) and self.kind is not StepKind.TASK,
            "max_retries": self.max_retries is not None and self.kind is not StepKind.TASK,
            "seconds": self.seconds is not None and self.kind is not StepKind.WAIT,
            "timeout": self.timeout is not None and self.kind is StepKind.WAIT,
            "signal": self.signal is not None and self.kind is not StepKind.SIGNAL,
            "on_timeout": "on_timeout" in self.model_fields_set and self.kind is not StepKind.SIGNAL,
        }
        wrong = [name for name, given in misplaced.items() if given]
        if wrong:
            raise ValueError(f"a step of kind {self.kind.value!r} has no {', '.join(wrong)}")
        if self.kind is StepKind.TASK and self.timeout is not None and self.timeout > LONGEST_TIMEOUT:
            raise ValueError(f"the timeout of a task is at most {LONGEST_TIMEOUT} s")
        if self.workflow is not None and (self.timeout is not None or self.max_retries is not None):
            raise ValueError("a step that is a workflow has no timeout and no max_retries: its own steps have them")
        return self


class WorkflowDefinition(_Frozen):
    """A workflow: steps in any order, each of which names the steps it comes after."""

    name: Name
    version: int = Field(1, strict=True, ge=1, le=1_000_000)
    description: str = Field("", max_length=1000)
    input: Name | None = Field(None, description="Name of the registered input type; null: any JSON object")
    steps: tuple[StepDefinition, ...] = Field(min_length=1, max_length=MAX_STEPS)
