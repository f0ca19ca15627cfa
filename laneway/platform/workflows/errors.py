"""What can be wrong with workflows, their definitions and what is asked of them."""

from __future__ import annotations

from laneway.platform.errors import ConfigError, PermanentError, PlatformError


class InvalidDefinition(ConfigError):
    """A workflow definition that cannot be run."""

    title = "Invalid workflow definition"

    name: str
    problems: list[str]

    def __str__(self) -> str:
        return f"The workflow definition {self.name!r} is not valid:\n" + "\n".join(
            f"  - {problem}" for problem in self.problems
        )


class UnknownWorkflowType(PlatformError):
    """There is no definition of this name."""

    status, title = 422, "Unknown workflow type"

    name: str
    known: list[str]

    def __str__(self) -> str:
        return f"There is no workflow type {self.name!r}; there are {', '.join(self.known) or 'none'}."


class InvalidInput(PermanentError):
    """What a workflow was started with does not fit its type."""

    title = "Invalid workflow input"

    name: str
    problems: list[str]

    def __str__(self) -> str:
        return f"The input of the workflow {self.name} is not valid: " + "; ".join(self.problems)


class WrongWorkflowState(PlatformError):
    """The workflow is in a state in which this cannot be done to it."""

    status, title = 409, "Not possible in this state"

    template = "Workflow {id!r} is {state}; it cannot be {action}."
    id: str
    state: str
    action: str


class UnknownSignal(PlatformError):
    """No step of the workflow waits for a signal of this name."""

    status, title = 404, "Unknown signal"

    name: str
    known: list[str]

    def __str__(self) -> str:
        what = f"it waits for {', '.join(self.known)}" if self.known else "it waits for none"
        return f"This workflow has no step that waits for the signal {self.name!r}; {what}."


class InvalidSignal(PermanentError):
    """A signal's data cannot be kept."""

    title = "Invalid signal"

    template = "The signal {name!r} cannot be kept: {problem}."
    name: str
    problem: str


class UnknownHandler(PermanentError):
    """A step names a handler that this process does not have: another version of the platform wrote it."""

    title = "Unknown step handler"

    template = "There is no step handler {name!r} here; is this worker of the same version as the API?"
    name: str


class OutputTooLarge(PermanentError):
    """A step gave back more than is kept."""

    title = "Step output too large"

    template = "The output of step {step!r} has {size} characters of JSON, more than {limit}."
    step: str
    size: int
    limit: int
