"""The registry: every task that was declared with `@task`, by name.

The API and services submit tasks by these names, and workers run them. A declaration that cannot work raises an error
when it is registered, or in `check` when the process starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, cast

from pydantic import BaseModel

from laneway.platform.errors import ConfigError, UnknownTaskType
from laneway.platform.flow.chunk import Chunk
from laneway.platform.flow.task_flow import TaskFlow
from laneway.platform.queues import DEFAULT_QUEUE, Priority, queues
from laneway.schemas.choices import IfBusy
from laneway.schemas.payload import Payload

NAME_LIMIT: Final = 155
"""Characters of a task's name; the size of its column."""


class BadTask(ConfigError):
    """The declaration of a task cannot work."""

    template = "The task {task!r} cannot be registered: {problem}"
    task: str
    problem: str


class MissingTask(ConfigError):
    """The platform needs a task that is not registered."""

    template = "No task is registered for {role}: register one when the application starts."
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """How the tasks of one name are called, queued and retried."""

    name: str
    own_queue: str | None = None
    """None: the application's default queue."""
    payload: type[Payload]
    key: str | None = None
    """The payload's field that is the ordering key: one task at a time per value, in the order of submission."""
    if_busy: IfBusy = IfBusy.WAIT
    """What happens to a submission while another task of this name and ordering key waits or runs."""
    priority: Priority = Priority.NORMAL
    max_retries: int | None = None
    """None: TASK_MAX_RETRIES."""
    delays: tuple[float, ...] | None = None
    """Seconds before each retry. None: exponential backoff from TASK_RETRY_DELAY to TASK_RETRY_DELAY_MAX."""
    on_failure: str | None = None
    """The task that is submitted, with `EndedTask`, whenever one of this name ends without being completed."""
    role: str | None = None
    """The purpose for which the platform itself submits the task, such as the delivery of outbound webhooks."""
    internal: bool = False
    """Whether only the platform and the application submit the task, and nobody from outside."""
    aliases: tuple[str, ...] = ()
    """Earlier names of the task: what was sent or stored under them is run by this task."""
    flow: TaskFlow = field(default_factory=TaskFlow)
    """Limits that it shares with others, labels of its workers, its tenant and deadline."""
    cost: int = 1
    """How many slots of a worker a run takes."""
    chunk: Chunk | None = None
    """How many of its tasks run at once, by one call of its function; None: one call for each."""
    encrypted: bool = False
    """Whether its payloads, results and steps are encrypted in the database and in the broker."""

    @property
    def queue(self) -> str:
        """The queue of its tasks. Raises ConfigError when it is the default one and no queue is declared."""
        return self.own_queue or queues.default


class RegisteredTask(Protocol):
    """What `@task` makes of a function."""

    spec: TaskSpec


TaskRef: TypeAlias = str | TaskSpec | RegisteredTask
"""How a submission names its task: by name, by spec, or by the task itself."""


@dataclass(frozen=True, slots=True)
class _Entry:
    spec: TaskSpec
    task: object
    source: str


class TaskRegistry(Mapping[str, TaskSpec]):
    """Specs by name, in the order of registration. A lookup also finds a task by an alias; iteration has names only."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._aliases: dict[str, str] = {}
        self._listeners: list[Callable[[Any], object]] = []

    def __getitem__(self, name: str) -> TaskSpec:
        return self._entries[self.current_name(name)].spec

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, spec: TaskSpec, task: object, *, source: str) -> None:
        """Register a task. `source` names its function; the same function may be registered again, as after a reload.

        Raises BadTask when another function has this name or one of its aliases, when the queue is not declared, when
        the payload is not a pydantic model, and when the ordering key is not a field of the payload.
        """
        self._check_name(spec, source)
        self._check_aliases(spec)
        _check_payload(spec)
        _check_chunk(spec)
        if queues:
            _check_queue(spec)
        self._forget_aliases(spec.name)
        self._entries[spec.name] = _Entry(spec, task, source)
        self._aliases |= dict.fromkeys(spec.aliases, spec.name)
        for listener in self._listeners:
            _announce(self._entries[spec.name], listener)

    def bind(self, register: Callable[[Any], object]) -> None:
        """Call `register`, such as Celery's `app.register_task`, with every task, now and when one is added."""
        self._listeners.append(register)
        for entry in self._entries.values():
            _announce(entry, register)

    def current_name(self, name: str) -> str:
        """The name of the task that has this alias; any other name as it is."""
        return self._aliases.get(name, name)

    def names_of(self, name: str) -> tuple[str, ...]:
        """All names of the task that has this name or alias; the name itself if no task has it."""
        spec = self.get(name)
        return (spec.name, *spec.aliases) if spec is not None else (name,)

    def find(self, name: str) -> TaskSpec:
        """The spec of this name or alias. Raises UnknownTaskType."""
        spec = self.get(name)
        if spec is None:
            raise UnknownTaskType(name, sorted(self._entries))
        return spec

    def task(self, name: str) -> object | None:
        """The task of this name or alias; None if nobody has registered it with a function."""
        entry = self._entries.get(self.current_name(name))
        return entry.task if entry is not None else None

    def by_role(self, role: str) -> TaskSpec:
        """The task that the platform submits for this purpose. Raises MissingTask."""
        for spec in self.values():
            if spec.role == role:
                return spec
        raise MissingTask(role)

    def has_role(self, role: str) -> bool:
        """True when a task is registered for this purpose."""
        return any(spec.role == role for spec in self.values())

    def is_internal(self, name: str) -> bool:
        """True when nobody from outside may submit the task: by its declaration, or as another's `on_failure` task."""
        spec = self.find(name)
        return spec.internal or any(other.on_failure in (spec.name, *spec.aliases) for other in self.values())

    def check(self) -> None:
        """Check what only a complete registry shows: the queues and the `on_failure` tasks. Raises BadTask."""
        for spec in self.values():
            _check_queue(spec)
            if spec.on_failure is not None and spec.on_failure not in self:
                raise BadTask(spec.name, f"its on_failure task {spec.on_failure!r} is not registered.")

    def remove(self, name: str) -> None:
        """Forget a task; for tests that register their own."""
        self._forget_aliases(name)
        self._entries.pop(name, None)

    def _forget_aliases(self, name: str) -> None:
        self._aliases = {alias: each for alias, each in self._aliases.items() if each != name}

    def _check_name(self, spec: TaskSpec, source: str) -> None:
        if not spec.name or len(spec.name) > NAME_LIMIT:
            raise BadTask(spec.name, f"a name has 1 to {NAME_LIMIT} characters.")
        known = self._entries.get(spec.name)
        if known is None or known.source == source:
            return
        if "__main__" in (known.source.split(".")[0], source.split(".")[0]):
            problem = "its module is both run as a program and imported: submit tasks from another file."
            raise BadTask(spec.name, problem)
        raise BadTask(spec.name, f"{known.source} and {source} have the same name.")

    def _check_aliases(self, spec: TaskSpec) -> None:
        if spec.name in self._aliases:
            problem = f"its name is an alias of the task {self._aliases[spec.name]!r}."
            raise BadTask(spec.name, problem)
        for alias in spec.aliases:
            if not alias or len(alias) > NAME_LIMIT:
                raise BadTask(spec.name, f"an alias has 1 to {NAME_LIMIT} characters.")
            if alias in self._entries or alias == spec.name:
                raise BadTask(spec.name, f"its alias {alias!r} is the name of a task that is registered.")
            if self._aliases.get(alias, spec.name) != spec.name:
                problem = f"its alias {alias!r} is also an alias of the task {self._aliases[alias]!r}."
                raise BadTask(spec.name, problem)


registry: Final = TaskRegistry()
"""The tasks of this process."""


def _announce(entry: _Entry, register: Callable[[Any], object]) -> None:
    """Call `register` with the task, and with a further instance of its class for each alias."""
    task: Any = entry.task
    for alias in entry.spec.aliases:
        renamed = type(task)()
        renamed.name = alias
        register(renamed)
    register(task)


def _check_payload(spec: TaskSpec) -> None:
    payload = cast("object", spec.payload)
    if not (isinstance(payload, type) and issubclass(payload, BaseModel)):
        raise BadTask(spec.name, f"its payload {payload!r} is not a pydantic model; subclass laneway.Payload.")
    for named in spec.flow.fields():
        if named not in spec.payload.model_fields:
            raise BadTask(spec.name, f"{named!r}, of its limits or tenant, is not a field of {spec.payload.__name__}.")
    if spec.key is not None and spec.key not in spec.payload.model_fields:
        raise BadTask(spec.name, f"its ordering key {spec.key!r} is not a field of {spec.payload.__name__}.")
    if spec.if_busy is not IfBusy.WAIT and spec.key is None:
        raise BadTask(spec.name, f"if_busy={spec.if_busy.value!r} needs the ordering key: key='FIELD'.")


def _check_chunk(spec: TaskSpec) -> None:
    by = spec.chunk.by if spec.chunk is not None else None
    if by is None:
        return
    if by not in spec.payload.model_fields:
        raise BadTask(spec.name, f"{by!r}, of its chunks, is not a field of {spec.payload.__name__}.")
    if by == spec.key:
        problem = f"its chunks are by {by!r}, of which its ordering key lets one task run at a time; leave out one."
        raise BadTask(spec.name, problem)
    if spec.encrypted:
        raise BadTask(spec.name, f"it is encrypted, so that workers cannot gather it by {by!r}; leave out one.")


def _check_queue(spec: TaskSpec) -> None:
    known = ", ".join(queues) or "none"
    if spec.own_queue is None and len(queues) > 1 and DEFAULT_QUEUE not in queues:
        problem = f"it names no queue, and no queue is called {DEFAULT_QUEUE!r}; declared queues: {known}."
        raise BadTask(spec.name, problem)
    if not queues or spec.queue not in queues:
        raise BadTask(spec.name, f"its queue {spec.own_queue!r} is not declared; declared queues: {known}.")
