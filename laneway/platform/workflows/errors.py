"""Errors of workflows: of their definitions, inputs, states and signals."""

from __future__ import annotations

from laneway.platform.errors import ConfigError, PermanentError, PlatformError, RetryableError


class InvalidDefinition(ConfigError):
    """A workflow definition cannot be used."""

    title = "Invalid workflow definition"

    name: str
    problems: list[str]

    def __str__(self) -> str:
        return f"The workflow definition {self.name!r} is not valid:\n" + "\n".join(
            f"  - {problem}" for problem in self.problems
        )


class BrokenWorkflowType(RetryableError):
    """The definition of the workflow is there, and is not valid. Other workflows can be started."""

    title = "Broken workflow definition"

    name: str
    file: str
    problems: list[str]

    def __str__(self) -> str:
        return (
            f"The workflow {self.name!r} cannot be started, because its definition {self.file} is not valid: "
            f"{'; '.join(self.problems)}. Correct the file (`laneway workflows definitions` checks it), then restart "
            "the API and the workers."
        )


class UnknownWorkflowType(PlatformError):
    """No definition has this name."""

    status, title = 422, "Unknown workflow type"

    name: str
    known: list[str]

    def __str__(self) -> str:
        return f"There is no workflow type {self.name!r}; there are {', '.join(self.known) or 'none'}."


class InvalidInput(PermanentError):
    """The input of a workflow does not fit its type."""

    title = "Invalid workflow input"

    name: str
    problems: list[str]

    def __str__(self) -> str:
        return f"The input of the workflow {self.name} is not valid: " + "; ".join(self.problems)


class WrongWorkflowState(PlatformError):
    """The action is not possible in the state of the workflow."""

    status, title = 409, "Not possible in this state"

    template = "Workflow {id!r} is {state}; it cannot be {action}."
    id: str
    state: str
    action: str


class DefinitionDoesNotFit(PlatformError):
    """A run cannot continue with the newest definition, because of the steps that it has done."""

    status, title = 409, "The definition does not fit"

    id: str
    version: int
    problems: list[str]

    def __str__(self) -> str:
        return (
            f"Workflow {self.id!r} cannot continue with the newest definition (version {self.version}): "
            f"{'; '.join(self.problems)}. Retry it with the definition that it was started with, or from its start."
        )


class UnknownSignal(PlatformError):
    """No step of the workflow waits for a signal of this name."""

    status, title = 404, "Unknown signal"

    name: str
    known: list[str]

    def __str__(self) -> str:
        expected = f"it waits for {', '.join(self.known)}" if self.known else "it waits for none"
        return f"This workflow has no step that waits for the signal {self.name!r}; {expected}."


class InvalidSignal(PermanentError):
    """The data of a signal cannot be stored."""

    title = "Invalid signal"

    template = "The signal {name!r} cannot be kept: {problem}."
    name: str
    problem: str


class ItemFailed(PermanentError):
    """The handler of a step found a problem in one item of its list."""

    title = "An item failed"

    template = "{reason}"
    reason: str


class NestedTooDeeply(PermanentError):
    """A workflow was started by a workflow that was started by a workflow, and so on."""

    title = "Nested too deeply"

    template = "The workflow {type!r} is not started: {depth} workflows, each a step of the one before, are the limit."
    type: str
    depth: int


class UnknownHandler(PermanentError):
    """No worker had a handler of this name for TASK_HAND_ON_SECONDS."""

    title = "Unknown step handler"

    template = "No worker knows the step handler {name!r}: deploy workers whose code has it, then retry the step."
    name: str


class OutputTooLarge(PermanentError):
    """The output of a step is larger than the platform stores."""

    title = "Step output too large"

    template = "The output of step {step!r} has {size} characters of JSON, more than {limit}."
    step: str
    size: int
    limit: int
