"""The registry: every task that was declared with `@task`, by name.

What is registered is the catalog: the API and services submit by these names, and workers run what is registered here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from pydantic import BaseModel

from laneway.platform.errors import ConfigError, UnknownTaskType
from laneway.platform.payload import Payload
from laneway.platform.queues import Priority, queues


class BadTask(ConfigError):
    """A task is declared in a way that cannot work."""

    template = "The task {task!r} cannot be registered: {problem}"
    task: str
    problem: str


class MissingTask(ConfigError):
    """The platform needs a task that nobody registered."""

    template = "No task is registered for {role}: register one when the application starts."
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """How the tasks of one name are called, queued and retried."""

    name: str
    queue: str
    payload: type[Payload]
    key: str | None = None
    """The payload's field that is the ordering key: one task at a time per value, in the order of submission."""
    priority: Priority = Priority.NORMAL
    max_retries: int | None = None
    """None: TASK_MAX_RETRIES."""
    delays: tuple[float, ...] | None = None
    """Seconds before each retry; None: exponential backoff from TASK_RETRY_DELAY to TASK_RETRY_DELAY_MAX."""
    on_failure: str | None = None
    """The task that is submitted, with `EndedTask`, whenever one of this name ends without being completed."""
    role: str | None = None
    """What the platform itself submits it for, such as the delivery of outbound webhooks."""


class RegisteredTask(Protocol):
    """What `@task` makes of a function."""

    spec: TaskSpec


TaskRef = str | TaskSpec | RegisteredTask
"""How a submission says which task it means: by name, by spec, or by the task itself."""


class TaskRegistry(Mapping[str, TaskSpec]):
    """Specs by name, in the order of registration."""

    def __init__(self) -> None:
        self._specs: dict[str, TaskSpec] = {}
        self._tasks: dict[str, object] = {}
        self._listeners: list[Callable[[Any], object]] = []

    def __getitem__(self, name: str) -> TaskSpec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def add(self, spec: TaskSpec, task: object, *, source: str) -> None:
        """Register a task. `source` names the function; the same function may be registered again, as by a reload.

        Raises BadTask for a second task of this name, a queue that was not declared, a payload that is no model,
        and an ordering key that the payload does not have.
        """
        self._check_name(spec, source)
        self._check_payload(spec)
        if queues:
            self._check_queue(spec)
        self._specs[spec.name], self._tasks[spec.name] = spec, task
        _sources[spec.name] = source
        for listener in self._listeners:
            listener(task)

    def bind(self, register: Callable[[Any], object]) -> None:
        """Give `register` every task that is registered, and each that will be, as Celery's `app.register_task`."""
        self._listeners.append(register)
        for task in self._tasks.values():
            register(task)

    def find(self, name: str) -> TaskSpec:
        """The spec of this name. Raises UnknownTaskType."""
        if name not in self._specs:
            raise UnknownTaskType(name, sorted(self._specs))
        return self._specs[name]

    def by_role(self, role: str) -> TaskSpec:
        """The task that the platform submits for this. Raises MissingTask."""
        for spec in self._specs.values():
            if spec.role == role:
                return spec
        raise MissingTask(role)

    def has_role(self, role: str) -> bool:
        """Whether a task is registered for this."""
        return any(spec.role == role for spec in self._specs.values())

    def check(self) -> None:
        """Check the queues and the `on_failure` tasks, which only a complete registry can show. Raises BadTask."""
        for spec in self._specs.values():
            self._check_queue(spec)
            if spec.on_failure is not None and spec.on_failure not in self._specs:
                raise BadTask(spec.name, f"its on_failure task {spec.on_failure!r} is not registered.")

    def remove(self, name: str) -> None:
        """Forget a task; for tests that register their own."""
        self._specs.pop(name, None)
        self._tasks.pop(name, None)

    def _check_name(self, spec: TaskSpec, source: str) -> None:
        if not spec.name or len(spec.name) > NAME_LIMIT:
            raise BadTask(spec.name, f"a name has 1 to {NAME_LIMIT} characters.")
        if spec.name in self._specs and _sources[spec.name] != source:
            raise BadTask(spec.name, f"{_sources[spec.name]} has the same name as {source}.")

    def _check_payload(self, spec: TaskSpec) -> None:
        payload = cast("object", spec.payload)
        if not (isinstance(payload, type) and issubclass(payload, BaseModel)):
            raise BadTask(spec.name, f"its payload {payload!r} is not a pydantic model; subclass laneway.Payload.")
        if spec.key is not None and spec.key not in spec.payload.model_fields:
            raise BadTask(spec.name, f"its ordering key {spec.key!r} is not a field of {spec.payload.__name__}.")

    def _check_queue(self, spec: TaskSpec) -> None:
        if spec.queue not in queues:
            known = ", ".join(queues) or "none"
            raise BadTask(spec.name, f"its queue {spec.queue!r} is not declared; declared are {known}.")


NAME_LIMIT: Final = 155
"""Characters of a task's name: what a column holds."""
_sources: dict[str, str] = {}
registry: Final = TaskRegistry()
"""The tasks of this process."""
