"""What is typed into the search: `queue=mail state=failed since=2h`, the id of a task, or the name of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import typer

from laneway._suggestion import suggest
from laneway.cli.source import TaskFilter
from laneway.cli.times import moment
from laneway.schemas.choices import TaskState

FIELDS: Final = ("queue", "name", "state", "tag", "key", "error", "since", "until")


class SearchError(ValueError):
    """What was typed is no search; the text says why."""


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for. `word`: a word without a field, which is an id or a name."""

    which: TaskFilter
    word: str = ""


def parse(text: str) -> Search:
    """Read what was typed. Raises SearchError."""
    given: dict[str, Any] = {}
    states: list[TaskState] = []
    words: list[str] = []
    for part in text.split():
        name, separator, value = part.partition("=")
        if not separator:
            words.append(part)
        elif name not in FIELDS:
            raise SearchError(f"{suggest(name, FIELDS)} is no field; the fields are {', '.join(FIELDS)}.")
        elif name == "state":
            states += [_state(each) for each in value.split(",")]
        else:
            given[name] = _time(value) if name in ("since", "until") else value
    if len(words) > 1:
        raise SearchError("Write one id or one name, and field=value for the rest.")
    if words and not (given or states):
        return Search(TaskFilter(name=words[0]), words[0])
    if words:
        given.setdefault("name", words[0])
    return Search(TaskFilter(states=tuple(states), **given))


def _state(text: str) -> TaskState:
    try:
        return TaskState(text)
    except ValueError:
        raise SearchError(f"{text!r} is no state; the states are {', '.join(TaskState)}.") from None


def _time(text: str) -> Any:
    try:
        return moment(text)
    except typer.BadParameter as error:
        raise SearchError(error.message) from None
