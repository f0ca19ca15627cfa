"""Which rule of the settings says how long finished tasks are kept, and for which tasks each rule holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from laneway._suggestion import suggest
from laneway.platform.db.queries.retention import FinishedTasks
from laneway.platform.errors import ConfigError
from laneway.platform.queues import queues as declared
from laneway.platform.registry import registry
from laneway.platform.settings import TaskRetentionSettings
from laneway.schemas.task import FINISHED, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRule:
    """One rule: it holds for these tasks, and the setting says for how many days they are kept."""

    which: FinishedTasks
    days: int
    setting: str
    name: str | None = None
    """The name of the setting. The task may have other names, too (`FinishedTasks.names`)."""


def task_rules(own: TaskRetentionSettings, *, default: int) -> list[TaskRule]:
    """The rules in force. Each finished task belongs to exactly one; the most exact setting counts.

    `default`: RETENTION_DAYS_TASKS.
    """
    return [rule for state in sorted(FINISHED) for rule in _rules_of(own, state, default=default)]


def _rules_of(own: TaskRetentionSettings, state: TaskState, *, default: int) -> Iterator[TaskRule]:
    names = [name for name in own.names if own.names_state(name, state, of=own.by_name)]
    queues = [queue for queue in own.queues if own.names_state(queue, state, of=own.by_queue)]
    all_names = tuple(each for name in names for each in registry.names_of(name))
    for name in names:
        kept = own.kept(state, name=name, default=default)
        which = FinishedTasks(state=state, names=registry.names_of(name))
        yield TaskRule(which=which, days=kept.days, setting=kept.setting, name=name)
    for queue in queues:
        kept = own.kept(state, queue=queue, default=default)
        which = FinishedTasks(state=state, queue=queue, other_than_names=all_names)
        yield TaskRule(which=which, days=kept.days, setting=kept.setting)
    kept = own.kept(state, default=default)
    others = FinishedTasks(state=state, other_than_names=all_names, other_than_queues=tuple(queues))
    yield TaskRule(which=others, days=kept.days, setting=kept.setting)


def check_names(own: TaskRetentionSettings) -> None:
    """Raise ConfigError for days of a queue or of a task that does not exist, with the most similar name."""
    names = [name for each in registry for name in registry.names_of(each)]
    for setting, kind, given, known in (
        ("RETENTION_DAYS_BY_QUEUE", "queue", own.queues, list(declared)),
        ("RETENTION_DAYS_BY_NAME", "task", own.names, sorted(names)),
    ):
        for name in given:
            if name not in known:
                raise ConfigError(
                    f"{setting} names no {kind} with {suggest(name, known)}; there are {', '.join(known)}."
                )
    for name in own.names:
        current = registry.current_name(name)
        if current != name and current in own.names:
            raise ConfigError(f"RETENTION_DAYS_BY_NAME names a task twice: {name!r} is an earlier name of {current!r}.")
