"""A desk: workflows on a real broker and database, and a worker that runs their steps one by one, in this process."""

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
from laneway.platform.payload import EndedTask
from laneway.platform.registry import registry
from laneway.platform.schemas.workflow_run import WorkflowStepRef, WorkflowView
from laneway.platform.workflows.definitions import checked, parsed
from laneway.platform.workflows.handlers import Handler, Returned, StepCall
from laneway.platform.workflows.runs import Launch
from tests.fixtures.platform import Platform

Step = dict[str, Any]
QUEUES = ("workflows", "analytics")


@dataclass
class Ran:
    """One attempt at a task, as a handler sees it."""

    attempt_: Attempt
    said: list[float] = field(default_factory=list[float])

    @property
    def id(self) -> str:
        return self.attempt_.task_id

    @property
    def attempt(self) -> int:
        return self.attempt_.number

    def progress(self, percent: float, message: str | None = None, **counters: float) -> None:  # noqa: ARG002
        self.said.append(percent)

    def raise_if_cancelled(self) -> None:
        """Nobody asks in these tests."""

    def step(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        return work(*args, **kwargs)

    def loop(self, name: str, items: Any) -> Iterator[Any]:  # noqa: ARG002
        yield from items


class Desk:
    """Starts workflows of the test's own and works on them."""

    def __init__(self, services: Services, platform: Platform) -> None:
        self.services, self.platform = services, platform
        self.calls: list[StepCall] = []
        self.scripts: dict[str, list[Returned | BaseException | Callable[[], Returned]]] = {}
        """Step → what its handler returns, raises or does, call by call; then always {"step": its name}."""

    def handle(self, call: StepCall) -> Returned:
        """The handler of all steps."""
        self.calls.append(call)
        script = self.scripts.get(call.step)
        said = script.pop(0) if script else {"step": call.step, "visit": call.visit}
        if isinstance(said, BaseException):
            raise said
        return said() if callable(said) else said

    @property
    def ran(self) -> list[str]:
        """The steps whose handler was called, in order."""
        return [call.step for call in self.calls]

    def start(self, *steps: Step, id: str = "w-1", given: dict[str, Any] | None = None, name: str = "tried") -> str:
        """Start a workflow with these steps; a task's handler is the desk's."""
        full = [{"handler": "desk", **step} if step.get("kind", "task") == "task" else step for step in steps]
        plan = checked(parsed(name, {"name": name, "steps": full}), handlers=self.services.workflow_handlers, inputs={})
        return self.services.workflows.start_plan(plan, given or {}, launch=Launch(id=id)).workflow_id

    def begin(self, queue: str = "workflows") -> Attempt | None:
        """Take the next task."""
        delivery = self.platform.fetch(queue)
        begun = self.platform.begun(delivery) if delivery else None
        return begun if isinstance(begun, Attempt) else None

    def run(self, attempt: Attempt) -> Outcome:
        """What its task does."""
        spec = registry[attempt.name]
        payload = spec.payload.model_validate(attempt.payload)
        try:
            if isinstance(payload, WorkflowStepRef) and spec is registry["run_workflow_step_task"]:
                return Completed(self.services.workflow_steps.run(payload, Ran(attempt)))
            assert isinstance(payload, EndedTask)
            return Completed(self.services.workflow_steps.settle_ended(payload))
        except TaskCancelled:
            return Stopped()
        except TaskSnoozed as snooze:
            return Snoozed(snooze.delay, snooze.reason)
        except Exception as error:  # noqa: BLE001
            return Raised(error)

    def step(self, queue: str = "workflows", *, retries: int = 0) -> Outcome | None:
        """Do the next task; None when there is none."""
        attempt = self.begin(queue)
        if attempt is None:
            return None
        attempt.max_retries = retries
        outcome = self.run(attempt)
        self.platform.end(attempt, outcome)
        return outcome

    def work(self, *, most: int = 200) -> int:
        """Do everything that is there to be done; gives back how many tasks it was."""
        done = 0
        while done < most:
            self.services.recorder.catch_up()
            self.services.tasks.outbox.relay()
            if not any(self.step(queue) for queue in QUEUES):
                return done
            done += 1
        raise AssertionError("it never ends")

    def view(self, id: str = "w-1") -> WorkflowView:
        """As the API shows it."""
        return self.services.workflow_views.view(id)

    def states(self, id: str = "w-1") -> dict[str, str]:
        """Step and visit → state."""
        return {f"{step.step}:{step.visit}" if step.visit else step.step: step.state for step in self.view(id).steps}

    def rows(self, id: str = "w-1") -> list[WorkflowStepRun]:
        """The stored visits."""
        with self.services.database.reading() as session:
            return list(repository.steps(session, id))


@pytest.fixture
def desk(services: Services, platform: Platform) -> Desk:
    """On SQLite and on PostgreSQL."""
    desk = Desk(services, platform)
    services.workflow_handlers["desk"] = Handler("desk", desk.handle)
    return desk
