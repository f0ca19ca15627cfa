"""What can be wrong with workflows, their definitions and what is asked of them."""

from __future__ import annotations

from laneway.platform.errors import ConfigError, PermanentError, PlatformError


class InvalidDefinition(ConfigError):
    """A workflow definition that cannot be run."""

    title = "Invalid workflow definition"

    def __init__(self, name: str, problems: list[str]) -> None:
        super().__init__(name, problems)
        self.name, self.problems = name, problems

    def __str__(self) -> str:
        return f"The workflow definition {self.name!r} is not valid:\n" + "\n".join(
            f"  - {problem}" for problem in self.problems
        )


class UnknownWorkflowType(PlatformError):
    """There is no definition of this name."""

    status, title = 422, "Unknown workflow type"

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(name, known)
        self.name, self.known = name, known

    def __str__(self) -> str:
        return f"There is no workflow type {self.name!r}; there are {', '.join(self.known) or 'none'}."


class InvalidInput(PermanentError):
    """What a workflow was started with does not fit its type."""

    title = "Invalid workflow input"

    def __init__(self, name: str, problems: list[str]) -> None:
        super().__init__(name, problems)
        self.name, self.problems = name, problems

    def __str__(self) -> str:
        return f"The input of the workflow {self.name} is not valid: " + "; ".join(self.problems)


class WrongWorkflowState(PlatformError):
    """The workflow is in a state in which this cannot be done to it."""

    status, title = 409, "Not possible in this state"

    def __init__(self, id: str, state: str, action: str) -> None:
        super().__init__(id, state, action)
        self.id, self.state, self.action = id, state, action

    def __str__(self) -> str:
        return f"Workflow {self.id!r} is {self.state}; it cannot be {self.action}."


class UnknownSignal(PlatformError):
    """No step of the workflow waits for a signal of this name."""

    status, title = 404, "Unknown signal"

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(name, known)
        self.name, self.known = name, known

    def __str__(self) -> str:
        what = f"it waits for {', '.join(self.known)}" if self.known else "it waits for none"
        return f"This workflow has no step that waits for the signal {self.name!r}; {what}."


class InvalidSignal(PermanentError):
    """A signal's data cannot be kept."""

    title = "Invalid signal"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name, self.problem = name, problem

    def __str__(self) -> str:
        return f"The signal {self.name!r} cannot be kept: {self.problem}."


class UnknownHandler(PermanentError):
    """A step names a handler that this process does not have: another version of the platform wrote it."""

    title = "Unknown step handler"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"There is no step handler {self.name!r} here; is this worker of the same version as the API?"


class OutputTooLarge(PermanentError):
    """A step gave back more than is kept."""

    title = "Step output too large"

    def __init__(self, step: str, size: int, limit: int) -> None:
        super().__init__(step, size, limit)
        self.step, self.size, self.limit = step, size, limit

    def __str__(self) -> str:
        return f"The output of step {self.step!r} has {self.size} characters of JSON, more than {self.limit}."
