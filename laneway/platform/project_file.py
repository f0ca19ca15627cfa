"""The section `[tool.laneway]` of pyproject.toml, or the same keys in laneway.toml: what an application consists of."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, cast

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from laneway.platform.errors import ConfigError
from laneway.platform.queues import DEFAULT_QUEUE, Lane, WorkerGroup
from laneway.platform.settings.base import LANEWAY_FILE, PROJECT_FILE

WORKFLOW_QUEUE: Final = "workflows"
"""The queue of workflow steps that name none. A project with workflows has it, also undeclared."""
SECTION: Final = "[tool.laneway]"
WORKER: Final = 'a table with a list of queues, such as {queues = ["default"]}'
REFERENCE: Final = 'module:name, such as "shop.core:name"'


class BadProject(ConfigError):
    """The section of a project is not valid."""

    template = "{where} is not valid:\n  - {problems}"
    where: str
    problems: str


Module = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
Reference = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]
"""`module:name`."""
QueueName = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9_.-]{1,155}$")]
Text = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=155)]


class WorkerSection(BaseModel):
    """One worker group: a process, and the queues that it serves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    queues: tuple[QueueName, ...] = Field(min_length=1)
    concurrency: int | None = Field(None, strict=True, ge=1, le=256)
    """Tasks at a time. None: WORKER_CONCURRENCY."""

    expected: ClassVar[dict[str, str]] = {
        "queues": 'a list of queues, at least one, such as ["default"]',
        "concurrency": "a whole number from 1 to 256",
    }


class Section(BaseModel):
    """The keys of the section. All are optional, but `tasks` or `celery` must be given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text | None = None
    """The application's name. Default: the project's name, else that of its folder."""
    tasks: tuple[Module, ...] = Field((), min_length=1)
    """The modules that register tasks."""
    schedules: Reference | None = None
    """A sequence of `laneway.platform.schedules.entry.Schedule`."""
    workflows: Text | None = None
    """The folder of workflow definitions, relative to the project's folder."""
    queues: dict[QueueName, Lane] = Field({DEFAULT_QUEUE: Lane.MEDIUM}, min_length=1)
    """Queue → lane."""
    workers: dict[QueueName, WorkerSection] = Field(default_factory=dict[str, WorkerSection])
    """Worker group → its queues. Default: one group `worker` that serves all queues."""
    celery: Reference | None = None
    """The project's own Celery app. Default: the library makes one."""
    platform: Reference | None = None
    """The class of the platform: a subclass of `laneway.platform.platform.Platform`."""
    settings: Reference | None = None
    """The function that reads the settings."""
    api: Reference | None = None
    """The ASGI application. Default: the library makes one."""
    development: Reference | None = None
    """A function that takes the settings and returns environment variables for the processes of `laneway up`."""
    commands: Reference | None = None
    """A function that adds the application's own commands to the command line."""

    @property
    def lanes(self) -> dict[str, Lane]:
        """The declared queues, and the queue of workflow steps if there are workflows."""
        if self.workflows is None or WORKFLOW_QUEUE in self.queues:
            return self.queues
        return {WORKFLOW_QUEUE: Lane.MEDIUM} | self.queues

    @property
    def worker_groups(self) -> tuple[WorkerGroup, ...]:
        """The declared worker groups. A queue that the library has added is served by the first one."""
        groups = {name: list(worker.queues) for name, worker in self.workers.items()}
        served = {queue for queues in groups.values() for queue in queues}
        if groups and WORKFLOW_QUEUE not in served and WORKFLOW_QUEUE in self.lanes.keys() - self.queues.keys():
            next(iter(groups.values())).append(WORKFLOW_QUEUE)
        return tuple(
            WorkerGroup(name, tuple(queues), self.workers[name].concurrency) for name, queues in groups.items()
        )

    expected: ClassVar[dict[str, str]] = {
        "name": "a text of at most 155 characters",
        "tasks": 'a list of modules, at least one, such as ["shop.tasks"]',
        "workflows": 'a folder, such as "workflows"',
        "queues": 'a table of at least one queue = lane, such as default = "medium"',
        "workers": "a table of worker groups",
    }


class ProjectFile:
    """A project's file: where it is, and its section."""

    def __init__(self, path: Path, values: dict[str, Any], *, project_name: object = None) -> None:
        """Raises BadProject, with one line per problem."""
        self.path = path
        self.where = str(path) if path.name == LANEWAY_FILE else f"{SECTION} in {path}"
        try:
            self.section = Section.model_validate(values)
        except ValidationError as error:
            found = [_problem(dict(item)) for item in error.errors(include_url=False)]
            raise self.refusal(*dict.fromkeys(found)) from None
        self.name = self.section.name or (project_name if isinstance(project_name, str) else path.parent.name)
        if problems := list(_contradictions(self.section)):
            raise self.refusal(*problems)

    def refusal(self, *problems: str) -> BadProject:
        """The error that names this file and these problems."""
        return BadProject(self.where, "\n  - ".join(problems))


def read_project_file(folder: Path) -> ProjectFile:
    """Read the section of a project's folder. Raises ConfigError, which names the file and the keys."""
    own, project = folder / LANEWAY_FILE, folder / PROJECT_FILE
    content = _content(project) or {}
    section: Any = content.get("tool", {}).get("laneway")
    values = _content(own)
    if values is not None and section is not None:
        raise ConfigError(f"{own} and {SECTION} in {project} describe the same application: keep one of them.")
    project_name: Any = content.get("project", {}).get("name")
    if values is not None:
        return ProjectFile(own, values, project_name=project_name)
    if section is None:
        raise ConfigError(
            f"No Laneway project here: {project} has no section {SECTION}. Start the command in a project's folder; "
            "`laneway new NAME` writes a new project."
        )
    if not isinstance(section, dict):
        raise BadProject(f"{SECTION} in {project}", "it must be a table")
    return ProjectFile(project, cast("dict[str, Any]", section), project_name=project_name)


def _content(path: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _problem(item: dict[str, Any]) -> str:
    """One sentence about a mistake that pydantic has found."""
    location = [part for part in item["loc"] if isinstance(part, str)]
    is_name = location[-1:] == ["[key]"]
    location = location[:-1] if is_name else location
    key = ".".join(location)
    if is_name:
        return f"{key}: a name of queues and workers consists of letters, digits and the characters . _ -"
    if item["type"] == "extra_forbidden":
        return _unknown_key(location)
    if item["type"] == "missing":
        return f"{key} is missing: name the queues that this worker group serves"
    if item["type"] == "enum":
        lane = str(item["input"])
        return f"{key}: there is no lane {lane!r}{_hint(lane, Lane)}; the lanes are {', '.join(Lane)}"
    if location[0] == "workers" and len(location) > 1:
        return f"{key} must be {WorkerSection.expected[location[-1]] if len(location) > 2 else WORKER}"
    return f"{key} must be {Section.expected.get(key, REFERENCE)}"


def _unknown_key(location: list[str]) -> str:
    known = list(WorkerSection.model_fields if location[0] == "workers" else Section.model_fields)
    key = location[-1]
    return f"{'.'.join(location)}: there is no key {key!r}{_hint(key, known)}; the keys are {', '.join(known)}"


def _hint(given: str, known: Iterable[str]) -> str:
    close = get_close_matches(given, list(map(str, known)), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _contradictions(section: Section) -> Iterator[str]:
    """What is wrong between the keys, one sentence each."""
    if not section.tasks and section.celery is None:
        yield f"tasks is missing: it must be {Section.expected['tasks']}"
    for name, worker in section.workers.items():
        for queue in worker.queues:
            if queue not in section.lanes:
                hint = _hint(queue, section.lanes)
                yield f"workers.{name}.queues: there is no queue {queue!r}{hint}; declare it in the table queues"
