"""A harness for workflows: a real broker and database, and a worker that runs steps one by one in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.services.container import Services
from laneway.platform.db.models import WorkflowStepRun
from laneway.platform.db.queries import workflows as repository
from laneway.platform.errors import TaskCancelled, TaskSnoozed
from laneway.platform.execution.outcomes import Attempt, Completed, Outcome, Raised, Snoozed, Stopped
from laneway.platform.registry import registry
from laneway.platform.workflows.definitions import checked_plan, parsed_definition
from laneway.platform.workflows.handlers import Handler, Returned, StepCall
from laneway.platform.workflows.runs import StartOptions
from laneway.schemas.payload import EndedTask, Wake
from laneway.schemas.workflow_run import WorkflowItemRef, WorkflowStepRef, WorkflowView
from tests.fixtures.platform import Platform

Step = dict[str, Any]
SCRIPTED = {"handler": "scripted"}
QUEUES = ("workflows", "analytics")


@dataclass
class AttemptTask:
    """One attempt at a task, as a handler sees it."""

    attempt_: Attempt
    services: Services
    reported: list[float] = field(default_factory=list[float])

    @property
    def id(self) -> str:
        return self.attempt_.task_id

    @property
    def attempt(self) -> int:
        return self.attempt_.number

    def progress(self, percent: float, message: str | None = None, **counters: float) -> None:  # noqa: ARG002
        self.reported.append(percent)

    def raise_if_cancelled(self) -> None:
        """No task is asked to stop in these tests."""

    def step(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.services.steps.run_once(self.attempt_, name, lambda: work(*args, **kwargs))

    def loop(self, name: str, items: Any) -> Iterator[Any]:  # noqa: ARG002
        yield from items


class WorkflowHarness:
    """Starts workflows with steps of the test and runs their tasks."""

    def __init__(self, services: Services, platform: Platform) -> None:
        self.services, self.platform = services, platform
        self.calls: list[StepCall] = []
        self.scripts: dict[str, list[Returned | BaseException | Callable[[], Returned]]] = {}
        """Step → what its handler returns, raises or calls, one entry a call; then always a dict with its name."""

    def handle(self, call: StepCall) -> Returned:
        """Handle a step by its script: the handler of all steps."""
        self.calls.append(call)
        script = self.scripts.get(call.step)
        entry = script.pop(0) if script else {"step": call.step, "visit": call.visit}
        if isinstance(entry, BaseException):
            raise entry
        return entry() if callable(entry) else entry

    @property
    def steps_run(self) -> list[str]:
        """The steps whose handler was called, in order."""
        return [call.step for call in self.calls]

    def start(self, *steps: Step, id: str = "w-1", input: dict[str, Any] | None = None, name: str = "tried") -> str:
        """Start a workflow with these steps; `handle` is the handler of its tasks."""
        full = [{**SCRIPTED, **step} if step.get("kind", "task") == "task" else step for step in steps]
        definition = parsed_definition(name, {"name": name, "steps": full})
        plan = checked_plan(definition, handlers=self.services.workflow_handlers, inputs={})
        return self.services.workflows.start_plan(plan, input or {}, options=StartOptions(id=id)).workflow_id

    def begin_task(self, queue: str = "workflows") -> Attempt | None:
        """Fetch the next task and begin its attempt; None when there is no task."""
        delivery = self.platform.fetch(queue)
        begun = self.platform.begun(delivery) if delivery else None
        return begun if isinstance(begun, Attempt) else None

    def run(self, attempt: Attempt) -> Outcome:
        """Run the task of an attempt; return its outcome without storing it."""
        spec = registry[attempt.name]
        payload = spec.payload.model_validate(attempt.payload)
        try:
            if isinstance(payload, WorkflowStepRef) and spec is registry["run_workflow_step_task"]:
                return Completed(self.services.workflow_steps.run(payload, AttemptTask(attempt, self.services)))
            if isinstance(payload, WorkflowItemRef):
                return Completed(self.services.workflow_steps.run_item(payload, AttemptTask(attempt, self.services)))
            if isinstance(payload, Wake):
                return Completed({"woken": self.services.tasks.waker.wake(payload)})
            assert isinstance(payload, EndedTask)
            return Completed(self.services.workflow_steps.settle_ended_task(payload))
        except TaskCancelled:
            return Stopped()
        except TaskSnoozed as snooze:
            return Snoozed(snooze.delay, snooze.reason)
        except Exception as error:  # noqa: BLE001
            return Raised(error)

    def run_next(self, queue: str = "workflows", *, retries: int = 0) -> Outcome | None:
        """Run the next task and store its outcome; None when there is no task."""
        attempt = self.begin_task(queue)
        if attempt is None:
            return None
        attempt.max_retries = retries
        outcome = self.run(attempt)
        self.platform.end(attempt, outcome)
        return outcome

    def run_all(self, *, most: int = 200) -> int:
        """Run tasks until none is left; return how many were run."""
        count = 0
        while count < most:
            self.services.recorder.catch_up()
            self.services.tasks.outbox.relay()
            if not any(self.run_next(queue) for queue in QUEUES):
                return count
            count += 1
        raise AssertionError("it never ends")

    def view(self, id: str = "w-1") -> WorkflowView:
        """Return the run as the API shows it."""
        return self.services.workflow_views.view(id)

    def states(self, id: str = "w-1") -> dict[str, str]:
        """Return step and visit → state."""
        return {f"{step.step}:{step.visit}" if step.visit else step.step: step.state for step in self.view(id).steps}

    def rows(self, id: str = "w-1") -> list[WorkflowStepRun]:
        """Return the stored visits."""
        with self.services.database.reading() as session:
            return list(repository.steps(session, id))


@pytest.fixture
def harness(services: Services, platform: Platform) -> WorkflowHarness:
    """A harness on SQLite and on PostgreSQL."""
    harness = WorkflowHarness(services, platform)
    services.workflow_handlers["scripted"] = Handler("scripted", harness.handle)
    return harness
